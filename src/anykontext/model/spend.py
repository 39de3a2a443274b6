"""What was spent: sums over the ledger, and what is left of each budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

from anykontext.model.money import Cap
from anykontext.model.words import one_line

EXACT = Context(prec=100)  # sums of amounts lose no digit
NONE = "-"  # a tag that a job does not have, in tables


@dataclass(frozen=True, slots=True)
class Sum:
    """An exact sum of money."""

    amount: Decimal
    currency: str = "USD"

    def to_json(self) -> dict[str, str]:
        """The JSON form: the amount as a text, so that no digit is lost."""
        return {"amount": f"{self.amount:f}", "currency": self.currency}

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


@dataclass(frozen=True, slots=True)
class SpendGroup:
    """Sums over the submits of one group.

    Attributes:
        group: The group's value for each word of `by`; None where a job has no such tag.
        total: What is known to have been paid.
        at_risk: What may have been paid.
        unknown: How many of its submits cost, or put at risk, an amount that nobody knows.
        submits: How many these are; those that surely cost nothing are not among them.
    """

    group: Mapping[str, str | None]
    total: Sum
    at_risk: Sum
    unknown: int
    submits: int

    @property
    def label(self) -> str:
        """The group in one word."""
        return " / ".join(NONE if value is None else one_line(value) for value in self.group.values()) or "all"

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping: the words of the group beside the sums."""
        sums = {**self.total.to_json(), "at_risk": self.at_risk.to_json()}
        return {**self.group, **sums, "unknown": self.unknown, "submits": self.submits}


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What is left of one cap, in USD; never below zero."""

    cap: Cap
    left: Decimal

    @property
    def name(self) -> str:
        """Which budget, in words."""
        if self.cap.tag is None:
            return self.cap.kind
        return f"{self.cap.kind} for {self.cap.tag[0]}={one_line(self.cap.tag[1])}"

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping; `renews_at` is an ISO time in UTC, or null for what never begins anew."""
        cap = self.cap
        return {
            "kind": cap.kind,
            "tag": None if cap.tag is None else {cap.tag[0]: cap.tag[1]},
            "limit": f"{cap.limit:f}",
            "left": f"{self.left:f}",
            "currency": "USD",
            "renews_at": None if cap.renews_at is None else datetime.fromtimestamp(cap.renews_at, UTC).isoformat(),
        }

    def __str__(self) -> str:
        if self.cap.at_risk_only:  # no cap on what runs, so that 0 stops nothing by itself
            why = "are left for going on after something that may have been paid (max_at_risk_usd)"
            return f"{self.name}: {self.left:f} of {self.cap.limit:f} USD {why}"
        told = f"{self.name}: {self.left:f} of {self.cap.limit:f} USD are left"
        if self.cap.renews_at is None:
            return told
        return f"{told}; it begins anew at {datetime.fromtimestamp(self.cap.renews_at, UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Spend:
    """Sums over the submits of a time, as the ledger knows them. Days are those of UTC.

    Attributes:
        by: The words that the rows are grouped by.
        rows: One for each group, in the order of their values.
        budgets: What is left of each budget that is configured, with one for each value of a tag that has spent.
    """

    by: tuple[str, ...]
    rows: tuple[SpendGroup, ...]
    budgets: tuple[BudgetLeft, ...] = ()

    @property
    def total(self) -> Sum:
        """What is known to have been paid."""
        return _sum(row.total for row in self.rows)

    @property
    def at_risk(self) -> Sum:
        """What may have been paid."""
        return _sum(row.at_risk for row in self.rows)

    @property
    def unknown(self) -> int:
        """How many submits cost, or put at risk, an amount that nobody knows."""
        return sum(row.unknown for row in self.rows)

    @property
    def submits(self) -> int:
        """How many submits these are; those that surely cost nothing are not among them."""
        return sum(row.submits for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as a mapping; amounts are texts, so that no digit is lost. The rows are `by_<words>`."""
        found: dict[str, Any] = {
            "total": self.total.to_json(),
            "at_risk": self.at_risk.to_json(),
            "unknown": self.unknown,
            "submits": self.submits,
        }
        if self.by:
            found["by_" + "_".join(self.by)] = [row.to_json() for row in self.rows]
        return {**found, "budgets": [one.to_json() for one in self.budgets]}

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the table."""
        words = [f"{word} (UTC)" if word == "day" else one_line(word) for word in self.by]
        return (*words, "spent", "at risk", "unknown", "submits")

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The table, the total last."""
        words = [[NONE if value is None else one_line(value) for value in row.group.values()] for row in self.rows]
        words.append(["total", *[""] * len(self.by)][: len(self.by)])
        sums = [*self.rows, SpendGroup({}, self.total, self.at_risk, self.unknown, self.submits)]
        return [
            (*group, str(row.total), str(row.at_risk), str(row.unknown), str(row.submits))
            for group, row in zip(words, sums if self.by else sums[-1:], strict=False)
        ]

    def __str__(self) -> str:
        lines = [self.heads, *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, *map(str, self.budgets)])


def _sum(sums: Iterable[Sum]) -> Sum:
    total = Decimal(0)
    for one in sums:
        total = EXACT.add(total, one.amount)
    return Sum(total)
