"""What the caller decided about going on: as plain data, from the config, the route and the call."""

from dataclasses import dataclass
from typing import Literal

from anykontext.model.errors import Kind
from anykontext.model.money import Cap

GoOn = Literal["raise", "continue"]

FAILOVER_ON = frozenset({Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.OUT_OF_CREDIT, Kind.GENERATION_FAILED})
# A task that ends so tells of its provider, and not of itself.
OUTAGES = frozenset({Kind.UNAVAILABLE, Kind.OUT_OF_CREDIT, Kind.AUTHENTICATION_FAILED})


@dataclass(frozen=True, slots=True)
class Policy:
    """The caller's choices.

    Attributes:
        strict: Refuse a candidate rather than adjust what the caller set.
        failover_on: The kinds after which the next candidate is tried.
        on_maybe_charged: Whether to go on after something that may have been paid.
        on_moderated: Whether to offer a refused prompt to the next candidate.
        waits_when_full: Whether to wait for a free place at a candidate while another could serve.
        waits: Whether the caller waits for the image, so that a task that starts after the deadline is of no use.
        attempt_share: The part of what is left of the deadline that a candidate may use while another is left.
        caps: Limits on what is spent and at risk; no submit leaves that would pass one.
        at_risk_cap: The limit on going on after something that may have been paid.
        breaker: Whether a candidate whose provider has just been out is passed over for a while.
        submit_grace_s: Seconds that a submit in flight is waited for after a deadline or Ctrl-C.
    """

    strict: bool = False
    failover_on: frozenset[Kind] = FAILOVER_ON
    on_maybe_charged: GoOn = "raise"
    on_moderated: GoOn = "raise"
    waits_when_full: bool = False
    waits: bool = True
    attempt_share: float = 1.0
    caps: tuple[Cap, ...] = ()
    at_risk_cap: Cap | None = None
    breaker: bool = True
    submit_grace_s: float = 30.0

    @property
    def heeds(self) -> frozenset[Kind]:
        """The kinds of outage for which a candidate is passed over: those after which the next one is tried, too."""
        return self.failover_on if self.breaker else frozenset()

    def goes_on_after(self, kind: Kind, *, maybe_charged: bool) -> bool:
        """Whether the next candidate may be tried."""
        if maybe_charged and self.on_maybe_charged == "raise":
            return False
        if kind is Kind.DEADLINE_EXCEEDED and not maybe_charged:
            return True  # its share of the deadline was used up, and nothing was sent
        if kind is Kind.MODERATED:
            return self.on_moderated == "continue"
        if kind in {Kind.OUTCOME_UNKNOWN, Kind.DEADLINE_EXCEEDED}:
            return self.on_maybe_charged == "continue"
        return kind in self.failover_on
