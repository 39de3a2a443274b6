"""Which candidates can do a request, in which order, at what price; each excluded one with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from anykontext.adapting import InputImage
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.submit import Step
from anykontext.model.errors import BudgetExceeded, NoCandidate
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment

Strategy = Literal["ordered", "cheapest"]
UNKNOWN_LAST = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Excluded:
    """A candidate that cannot do the request, and why."""

    candidate: Candidate
    misfit: Misfit


@dataclass(frozen=True, slots=True)
class Steps:
    """The candidates of a request, in the order in which they are tried.

    Attributes:
        steps: At least one.
        excluded: The others.
    """

    steps: tuple[Step, ...]
    excluded: tuple[Excluded, ...]


def plan(
    request: ImageRequest,
    images: Sequence[InputImage],
    candidates: Sequence[Candidate],
    policy: Policy,
    *,
    strategy: Strategy = "ordered",
    max_price: Decimal | None = None,
    waits: bool = True,
    prepared: Sequence[Adjustment] = (),
) -> Steps:
    """Negotiate with each candidate, leave out what is too dear, and put the rest in order.

    `cheapest` goes by the expected price of this request; equal prices keep the order given, unknown ones come last.

    Raises:
        UnsupportedOption: The only candidate cannot do the request.
        NoCandidate: None of several can.
        BudgetExceeded: Those that can would cost more than `max_price` (USD), or their price is not known.
    """
    steps: list[Step] = []
    excluded: list[Excluded] = []
    for candidate in candidates:
        try:
            step = negotiate(request, images, candidate, policy, waits=waits, prepared=prepared)
            _check_price(step, max_price)
            steps.append(step)
        except Misfit as misfit:
            excluded.append(Excluded(candidate, misfit))
    if not steps:
        raise _nothing_fits(excluded)
    if strategy == "cheapest":
        steps.sort(key=lambda step: UNKNOWN_LAST if step.price.amount is None else step.price.amount)
    return Steps(tuple(steps), tuple(excluded))


def _check_price(step: Step, max_price: Decimal | None) -> None:
    amount = step.price.amount
    if max_price is None or (amount is not None and amount <= max_price):
        return
    told = "its price is not known" if amount is None else f"it would cost {amount} USD"
    raise Misfit("max_price", str(max_price), None, f"{told}, and max_price is {max_price} USD")


def _nothing_fits(excluded: Sequence[Excluded]) -> Exception:
    reasons = {one.candidate.name: one.misfit.reason for one in excluded}
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if any(one.misfit.option == "max_price" for one in excluded):
        return BudgetExceeded(f"nothing was sent: {told}")
    if len(excluded) == 1:
        return excluded[0].misfit.error(excluded[0].candidate.provider.name)
    return NoCandidate(f"no candidate can do this request, and nothing was sent: {told}", reasons=reasons)
