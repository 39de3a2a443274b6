"""What a route lays down for planning, without the configuration that it was read from: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from anykontext.engine.provider import Candidate
from anykontext.model.frozen import Frozen

Strategy = Literal["ordered", "cheapest", "fastest", "weighted", "round-robin"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a route chooses.

    Attributes:
        strategy: How the candidates that fit are put in order.
        max_price: The most that the request may cost, in USD; None for no cap.
        unknown_price: Whether a candidate of unknown price may be taken under `max_price`.
        regions: Only where the work is done in one of these; empty for anywhere.
        public_uploads: Whether input images of ours may be put on a public URL.
        explore: For `fastest`: how often a candidate of which little is known goes first, from 0 to 1.
        weights: For `weighted`: the share of each candidate by name (`provider/model`); 1 where none is given.
    """

    strategy: Strategy = "ordered"
    max_price: Decimal | None = None
    unknown_price: bool = False
    regions: tuple[str, ...] = ()
    public_uploads: bool = True
    explore: float = 0.0
    weights: Mapping[str, float] = field(default_factory=Frozen)

    def weight(self, candidate: Candidate) -> float:
        """The share of a candidate."""
        return self.weights.get(candidate.name, 1.0)
