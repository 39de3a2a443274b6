"""A breaker: whether a provider, or one of its models, is passed over for a while after an outage. Pure.

closed ──failures in a row──► open ──its time is over──► half-open: one job at a time finds out
  ▲                            ▲                           │
  └────────── success ─────────┼───────────────────────────┤
                               └──── failure: twice as long┘
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from anykontext.model.errors import Kind

SPREAD = 0.25  # of a pause: clients that saw the same outage do not come back at the same moment
MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class Pause:
    """What a kind of failure does.

    Attributes:
        after: It opens the breaker when so many failures came in a row.
        first_s: For how long, in seconds; twice as long each time that it opens again without a success between.
        longest_s: At most so long.
        everywhere: Whether it is always about the provider with all its models.
    """

    after: int
    first_s: float
    longest_s: float
    everywhere: bool = False


# A refused key opens it, too, since every further submit is futile until the key changes. It is heeded only by routes
# that go on after it: by default a refused key stops the route, and must go on being seen.
PAUSES: Mapping[Kind, Pause] = {
    Kind.UNAVAILABLE: Pause(3, 5.0, 120.0),
    Kind.OUTCOME_UNKNOWN: Pause(3, 5.0, 120.0),
    Kind.OUT_OF_CREDIT: Pause(1, 60.0, 900.0, everywhere=True),
    Kind.AUTHENTICATION_FAILED: Pause(1, 60.0, 900.0, everywhere=True),
}
# Not an outage, and no sign of life either: rate limits are admission's business, the others are ours.
SAYS_NOTHING = frozenset({Kind.RATE_LIMITED, Kind.DEADLINE_EXCEEDED, Kind.CANCELLED, Kind.PROTOCOL_ERROR})


class Position(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker; the one that never saw a failure is `CLOSED`. Times are seconds of one clock that only goes forward.

    Attributes:
        failures: In a row.
        openings: How often it opened since the last success.
        since: When it opened first since the last success; None while it is closed.
        until: When it becomes half-open.
        kind: What opened it; a lost submit counts as `unavailable`.
        probing: Whether a job is finding out, so that no other is let through.
    """

    failures: int = 0
    openings: int = 0
    since: float | None = None
    until: float = 0.0
    kind: Kind = Kind.UNAVAILABLE
    probing: bool = False

    def position(self, now: float) -> Position:
        """Where it stands."""
        if self.since is None:
            return Position.CLOSED
        return Position.OPEN if now < self.until else Position.HALF_OPEN

    def stops(self, now: float) -> bool:
        """Whether another job that heeds it is passed over."""
        position = self.position(now)
        return position is Position.OPEN or (position is Position.HALF_OPEN and self.probing)

    def words(self, now: float) -> str:
        """Why it stops, for people."""
        assert self.since is not None
        ago = f"{self.kind} for {now - self.since:.0f} s"
        left_s = self.until - now
        return f"{ago}; tried again in {left_s:.0f} s" if left_s > 0 else f"{ago}; one job is finding out if it is back"


CLOSED = Breaker()


def probed(breaker: Breaker, *, probing: bool) -> Breaker:
    """The breaker when a job goes to find out, or was left without finding out."""
    return replace(breaker, probing=probing)


def says(kind: Kind | None) -> bool | None:
    """Whether the end of a submit says that the provider works; None where it says nothing. No kind is a success."""
    if kind is None:
        return True
    return None if kind in SAYS_NOTHING else kind not in PAUSES


def failed(breaker: Breaker, kind: Kind, now: float, jitter: float) -> Breaker:
    """The breaker after one more failure of a kind of `PAUSES`; `jitter` is a random fraction of 0 to 1.

    While it is open nothing changes: what was sent before it opened tells nothing new.
    """
    if breaker.position(now) is Position.OPEN:
        return breaker
    pause, failures = PAUSES[kind], breaker.failures + 1
    name = Kind.UNAVAILABLE if kind is Kind.OUTCOME_UNKNOWN else kind
    if breaker.since is None and failures < pause.after:
        return replace(breaker, failures=failures, kind=name)
    doubled = pause.first_s * 2 ** min(breaker.openings, MOST_DOUBLINGS)
    return Breaker(
        failures=failures,
        openings=breaker.openings + 1,
        since=now if breaker.since is None else breaker.since,
        until=now + min(doubled, pause.longest_s) * (1 + SPREAD * jitter),
        kind=name,
    )
