"""What a request would cost, where it would go, and why: the answer of `Client.plan`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anykontext.model.errors import AnykontextError
from anykontext.model.money import Cost
from anykontext.model.result import Adjustment
from anykontext.model.words import one_line

HEADS = ("#", "PROVIDER", "MODEL", "PRICE", "ADJUSTMENTS")
GAP = "  "


@dataclass(frozen=True, slots=True)
class PlannedCandidate:
    """A candidate that can do the request.

    Attributes:
        provider: Its name in the configuration.
        model: The canonical name of the model.
        price: What the whole request is expected to cost there.
        adjustments: The differences between what was asked and what would be sent.
    """

    provider: str
    model: str
    price: Cost
    adjustments: tuple[Adjustment, ...] = ()


@dataclass(frozen=True, slots=True)
class ExcludedCandidate:
    """A candidate that cannot do the request now.

    Attributes:
        provider: Its name in the configuration.
        model: The canonical name of the model.
        reason: Why, with the nearest possible value or what to do.
    """

    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a request would go; nothing was sent for it. `str(plan)` is a table.

    Attributes:
        route: The name of the route; None for one that was given in the call.
        strategy: How the candidates were put in order.
        candidates: Those that can do it, in the order in which they would be tried; there may be none.
        excluded: The others, each with its reason.
        notes: What else a person should know, such as a price list that is old.
        error: What the call itself would raise; None when there is a candidate.
        provider: The one provider that the request or the call names; None where the route chooses.
    """

    route: str | None
    strategy: str
    candidates: tuple[PlannedCandidate, ...]
    excluded: tuple[ExcludedCandidate, ...]
    notes: tuple[str, ...] = ()
    error: AnykontextError | None = field(default=None, compare=False)
    provider: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping."""
        return {
            "route": self.route,
            "strategy": self.strategy,
            "candidates": [
                {
                    "provider": one.provider,
                    "model": one.model,
                    "price": one.price.to_json(),
                    "adjustments": [adjustment.to_json() for adjustment in one.adjustments],
                }
                for one in self.candidates
            ],
            "excluded": [{"provider": one.provider, "model": one.model, "reason": one.reason} for one in self.excluded],
        }

    def __str__(self) -> str:
        lines = [self._head(), *(_table(self.candidates) if self.candidates else ["no candidate"])]
        if self.excluded:
            reasons = (f"{one.provider}/{one.model}: {one_line(one.reason)}" for one in self.excluded)
            lines += ["excluded", *(f"{GAP}{reason}" for reason in reasons)]
        return "\n".join([*lines, *(f"note: {one_line(note)}" for note in self.notes)])

    def _head(self) -> str:
        route = "a route given in the call" if self.route is None else f"route {self.route}"
        if self.provider is not None:
            return f"only {self.provider}, as asked; limits are those of {route}"
        return f"{route}, {self.strategy}"


def _table(candidates: Sequence[PlannedCandidate]) -> list[str]:
    """A row for each candidate; each further adjustment on a line of its own, below the first."""
    rows: list[tuple[str, ...]] = [HEADS]
    for place, one in enumerate(candidates, 1):
        first, *more = [one_line(adjustment) for adjustment in one.adjustments] or ["none"]
        rows.append((str(place), one.provider, one.model, str(one.price), first))
        rows += [("", "", "", "", adjustment) for adjustment in more]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
