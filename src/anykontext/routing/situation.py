"""What is known at the moment of planning, beside the request and the configuration: plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from anykontext.model.frozen import Frozen
from anykontext.model.money import Cap


@dataclass(frozen=True, slots=True)
class Situation:
    """The moment in which a request is planned.

    Attributes:
        now: Seconds of the wall clock.
        keyless: Candidates without a key, by name (`provider/model`), and where it was looked for.
        durations: Seconds from submit to image of the last successes, by candidate name, the newest last.
        left: Each cap that the request falls under, with what is left of it in USD.
        turn: How many requests this route had before: for `round-robin`.
        fraction: A random fraction of 0 to 1: for `weighted`, and for what `fastest` explores.
    """

    now: float
    keyless: Mapping[str, str] = field(default_factory=Frozen)
    durations: Mapping[str, Sequence[float]] = field(default_factory=Frozen)
    left: Sequence[tuple[Cap, Decimal]] = ()
    turn: int = 0
    fraction: float = 1.0
