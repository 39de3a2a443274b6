"""Which candidates can do a request, in which order, at what price; each excluded one with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anykontext.adapting import InputImage
from anykontext.engine.misfit import Misfit
from anykontext.engine.negotiate import negotiate
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.submit import Step
from anykontext.model.errors import AnykontextError, BudgetExceeded, MissingKey, NoCandidate, Unavailable
from anykontext.model.request import ImageRequest
from anykontext.model.result import Adjustment
from anykontext.routing.prices import check_budgets, check_price
from anykontext.routing.residency import check_exposure, check_region
from anykontext.routing.rules import Rules
from anykontext.routing.situation import Situation
from anykontext.routing.strategies import STRATEGIES

# Words for exclusions that have nothing to do with an option of the request.
MONEY = frozenset({"max_price", "budget"})
CLOSED, KEY = "closed", "api_key"


@dataclass(frozen=True, slots=True)
class Excluded:
    """A candidate that cannot do the request, and why."""

    candidate: Candidate
    misfit: Misfit


@dataclass(frozen=True, slots=True)
class Steps:
    """The candidates of a request, in the order in which they are tried.

    Attributes:
        steps: Those that can do it; there may be none.
        excluded: The others.
    """

    steps: tuple[Step, ...]
    excluded: tuple[Excluded, ...]

    def without(self, closed: Mapping[str, str]) -> "Steps":
        """What is left of them when some take nothing now: those by name (`provider/model`), each with the reason.

        The order was found before, as it is for a request that is sent: that one meets the same ones at the gate.
        """
        out = tuple(
            Excluded(one.candidate, Misfit(CLOSED, None, None, closed[one.candidate.name]))
            for one in self.steps
            if one.candidate.name in closed
        )
        left = tuple(one for one in self.steps if one.candidate.name not in closed)
        return Steps(left, (*self.excluded, *out))


def plan(
    request: ImageRequest,
    images: Sequence[InputImage],
    candidates: Sequence[Candidate],
    policy: Policy,
    *,
    rules: Rules,
    situation: Situation,
    waits: bool = True,
    prepared: Sequence[Adjustment] = (),
) -> Steps:
    """Negotiate with each candidate, leave out what is not possible or not allowed, and put the rest in order.

    Args:
        request: What is asked for.
        images: Its input images, read and prepared.
        candidates: In the order of the route.
        policy: Whether dials may be adjusted.
        rules: What the route lays down.
        situation: What is known at this moment.
        waits: Whether somebody will poll for the result.
        prepared: What was already done to the images, whoever gets them.

    Raises:
        UnsupportedOption: A provider option is none of its provider's, at any model.
    """
    steps: list[Step] = []
    excluded: list[Excluded] = []
    for candidate in candidates:
        try:
            _check_key(candidate, situation.keyless)
            step = negotiate(request, images, candidate, policy, waits=waits, prepared=prepared)
            _check(step, rules, situation)
            steps.append(step)
        except Misfit as misfit:
            excluded.append(Excluded(candidate, misfit))
    return Steps(tuple(STRATEGIES[rules.strategy](steps, rules, situation)), tuple(excluded))


def _check(step: Step, rules: Rules, situation: Situation) -> None:
    """What is allowed; money comes last, so that it excludes only what could be done but for it."""
    check_region(step.candidate, rules.regions)
    check_exposure(step.candidate, step.orders[0].images, public_uploads=rules.public_uploads)
    check_price(step, rules)
    check_budgets(step, situation.left)


def _check_key(candidate: Candidate, keyless: Mapping[str, str]) -> None:
    if candidate.name in keyless:
        raise Misfit(KEY, None, None, keyless[candidate.name])


def refusal(excluded: Sequence[Excluded], *, named: bool = False) -> AnykontextError:
    """The error of a request that no candidate takes; `named` says that the caller has named the provider.

    `BudgetExceeded` where a price or a budget stands in the way of one that could do it; `MissingKey` where none has
    a key; `UnsupportedOption` where the only candidate cannot do it, and `Unavailable` where the one that was named
    takes nothing now; else `NoCandidate` with every reason.
    """
    kinds = [one.misfit.option for one in excluded]
    reasons = {one.candidate.name: one.misfit.reason for one in excluded}
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if MONEY.intersection(kinds):
        return BudgetExceeded(f"nothing was sent: {told}")
    if {KEY} == set(kinds):
        return MissingKey(excluded[0].misfit.reason)
    if len(excluded) == 1 and kinds != [CLOSED]:
        return excluded[0].misfit.error(excluded[0].candidate.provider.name)
    if named and kinds == [CLOSED]:
        only = excluded[0].candidate
        return Unavailable(excluded[0].misfit.reason, provider=only.provider.name, model=only.model)
    advice = ". Try again later, or name another provider" if {CLOSED} == set(kinds) else ""
    return NoCandidate(f"no candidate can do this request, and nothing was sent: {told}{advice}", reasons=reasons)
