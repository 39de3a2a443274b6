"""The caps that a request falls under, from what the configuration says: pure. Days and months are those of UTC."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from anykontext.model.frozen import Frozen
from anykontext.model.money import Cap

Period = Literal["daily", "monthly"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most in USD for each period of UTC; None for no cap."""

    daily: Decimal | None = None
    monthly: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent.

    Attributes:
        all: By everything that shares the ledger.
        tags: By each value of a tag, by the tag's name. A request without the tag is under none of its caps.
    """

    all: Limits = Limits()
    tags: Mapping[str, Limits] = field(default_factory=Frozen)


def caps_for(budget: Budget, tags: Mapping[str, str], now: float) -> tuple[Cap, ...]:
    """The caps of a request with these tags at this time, in seconds of the wall clock."""
    found = [*_caps(budget.all, now, None)]
    for name, limits in budget.tags.items():
        if name in tags:
            found += _caps(limits, now, (name, tags[name]))
    return tuple(found)


def current(cap: Cap, now: float) -> Cap:
    """The same cap in the day or month of this time: a job may wait past the end of the one in which it began."""
    if cap.renews_at is None or now < cap.renews_at:
        return cap
    period: Period = "daily" if cap.kind == "daily" else "monthly"
    since, renews_at = bounds(period, now)
    return replace(cap, since=since, renews_at=renews_at)


def at_risk_cap(limit: Decimal) -> Cap:
    """The cap on going on after something that may have been paid; it never begins anew."""
    return Cap("at-risk", limit, at_risk_only=True)


def _caps(limits: Limits, now: float, tag: tuple[str, str] | None) -> Iterator[Cap]:
    periods: tuple[tuple[Period, Decimal | None], ...] = (("daily", limits.daily), ("monthly", limits.monthly))
    for period, limit in periods:
        if limit is not None:
            since, renews_at = bounds(period, now)
            yield Cap(period, limit, since, renews_at, tag)


def bounds(period: Period, now: float) -> tuple[float, float]:
    """When the day or month of UTC around a time began, and when the next one does, in seconds of the wall clock.

    >>> bounds("daily", 1_763_769_600.0)
    (1763769600.0, 1763856000.0)
    """
    begin = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "daily":
        return begin.timestamp(), (begin + timedelta(days=1)).timestamp()
    begin = begin.replace(day=1)
    following = (begin + timedelta(days=31)).replace(day=1)  # no month is longer
    return begin.timestamp(), following.timestamp()


def of_budget(cap: Cap, left: Decimal) -> str:
    """What is left of a cap, and when it begins anew, as the end of a sentence.

    >>> of_budget(Cap("daily", Decimal(20), 1_763_683_200.0, 1_763_769_600.0), Decimal("0.03"))
    'of the daily budget of 20 USD 0.03 USD are left; it begins anew at 2025-11-22 00:00 UTC'
    """
    whose = f" for {cap.tag[0]}={cap.tag[1]}" if cap.tag else ""
    told = f"of the {cap.kind} budget of {cap.limit:f} USD{whose} {left:f} USD are left"
    return told if cap.renews_at is None else f"{told}; it begins anew at {moment(cap.renews_at)}"


def moment(at: float) -> str:
    """A time in UTC, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
