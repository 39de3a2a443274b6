"""A job is a flow of flows: candidates are tried one after the other, by the rules of money and of the caller."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from anykontext.adapting import Kind, State, Succeeded, Task
from anykontext.engine.effects import All, Flow, Persist, Release
from anykontext.engine.ends import Ended, gravest, safely
from anykontext.engine.entries import JobEnd, PartEnd
from anykontext.engine.follow import Made, follow_task
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.redact import without_signatures
from anykontext.engine.submit import Accepted, Step, submit_attempt, task_of
from anykontext.engine.watch import Watch
from anykontext.model.errors import AllCandidatesFailed, ProviderError
from anykontext.model.events import FailingOver, Finished
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import NOTHING, Cost
from anykontext.model.result import Attempt, ImageResult, ResultImage, Timings


@dataclass(slots=True)
class Trail:
    """What was tried so far: really sent, not planned."""

    attempts: list[Attempt] = field(default_factory=list)
    errors: list[ProviderError] = field(default_factory=list)
    at_risk: Cost = NOTHING

    def add(self, watch: Watch, step: Step, end: Ended, handle: JobHandle | None, began_s: float) -> None:
        """Record an attempt that ended without an image."""
        candidate = step.candidate
        error = end.error(candidate, watch.job_id, handle)
        seconds = watch.seconds - began_s
        self.errors.append(error)
        self.attempts.append(
            Attempt(candidate.provider.name, candidate.model, end.kind, end.maybe_charged, seconds, end.message)
        )
        if charged := sum(one.maybe_charged for one in end.all):
            self.at_risk += step.price_of(charged, handle)

    def error(self, *, all_passed_over: bool) -> ProviderError:
        """What the caller is told: the error that stopped the route, or that every candidate failed."""
        last = self.errors[-1]
        maybe_charged = any(attempt.maybe_charged for attempt in self.attempts)
        if all_passed_over and len(self.errors) > 1:
            tried = "; ".join(f"{a.provider}/{a.model}: {a.outcome}" for a in self.attempts)
            last = AllCandidatesFailed(
                f"every candidate failed ({tried}); the last one said: {last.message}",
                errors=self.errors,
                provider=last.provider,
                model=last.model,
                http_status=last.http_status,
                raw=last.raw,
                retry_after=last.retry_after,
                handle=last.handle,
                job_id=last.job_id,
                advice=last.advice,
            )
        last.maybe_charged = maybe_charged
        last.attempts = tuple(self.attempts)
        last.errors = tuple(self.errors)
        return last


@dataclass(frozen=True, slots=True)
class Started:
    """A job that a provider has accepted: what `follow_job` goes on with.

    Attributes:
        accepted: The attempt that was accepted.
        trail: What was tried before it.
        index: Its place in the plan.
        began_s: When the attempt began, in seconds from the start of the job.
        result: Its images, where the provider answered with them at once and names no task to ask again.
        attempt: Its number within the job.
    """

    accepted: Accepted
    trail: Trail
    index: int
    began_s: float
    result: ImageResult | None = None
    attempt: int = 0


def start_job(
    watch: Watch, steps: Sequence[Step], policy: Policy, trail: Trail | None = None, first: int = 0
) -> Flow[Started | ProviderError]:
    """Submit until a candidate accepts, from `steps[first]` on.

    Raises:
        BudgetExceeded: A cap has no room for it; what was tried before is in its notes.
        ConfigurationError: The ledger could not be written: nothing was sent.
    """
    trail = trail or Trail()
    for index in range(first, len(steps)):
        step, began_s = steps[index], watch.seconds
        is_last = index + 1 == len(steps)
        outcome = yield from submit_attempt(watch, step, policy, is_last=is_last)
        if isinstance(outcome, Accepted):
            return Started(outcome, trail, index, began_s, attempt=watch.attempt)
        watch.attempt += 1
        watch.see((yield Release(step.candidate)))
        trail.add(watch, step, outcome, None, began_s)
        goes_on = _goes_on(policy, outcome)
        if is_last or not goes_on or watch.left_s <= 0:
            return (yield from _give_up(watch, trail, outcome, all_passed_over=goes_on and is_last))
        yield from _go_on(watch, outcome)
    raise AssertionError("a plan has at least one step")


def run_job(watch: Watch, steps: Sequence[Step], policy: Policy) -> Flow[ImageResult | ProviderError]:
    """The whole job: submit, follow, fetch; and the next candidate where the policy says so."""
    started = yield from start_job(watch, steps, policy)
    while isinstance(started, Started):
        outcome = yield from follow_job(watch, started)
        if isinstance(outcome, ImageResult):
            return outcome
        goes_on, is_last = _goes_on(policy, outcome), started.index + 1 == len(steps)
        if is_last or not goes_on or watch.left_s <= 0:
            return (yield from _give_up(watch, started.trail, outcome, all_passed_over=goes_on and is_last))
        watch.attempt += 1
        yield from _go_on(watch, outcome)
        started = yield from start_job(watch, steps, policy, started.trail, started.index + 1)
    return started


def wait_for(watch: Watch, started: Started) -> Flow[ImageResult | ProviderError]:
    """Follow one accepted attempt to its end; no other candidate is tried."""
    outcome = yield from follow_job(watch, started)
    if isinstance(outcome, ImageResult):
        return outcome
    return (yield from _give_up(watch, started.trail, outcome, all_passed_over=False))


def resumed(candidate: Candidate, handle: JobHandle, attempt: int = 0, parts: tuple[int, ...] = ()) -> Started:
    """A job that goes on from its handle, in this process or another.

    Args:
        candidate: Where it runs.
        handle: Its tasks.
        attempt: The number of the attempt, where the ledger knows it.
        parts: Which parts of the attempt the tasks are.
    """
    most = len(handle.tasks) * candidate.provider.adapter.facts.images_per_task
    step = Step(candidate, (), handle.adjustments, candidate.price(handle.mode).times(most))
    return Started(Accepted(step, handle, (), (), 0.0, parts), Trail(), 0, 0.0, attempt=attempt)


def follow_job(watch: Watch, started: Started) -> Flow[ImageResult | Ended]:
    """Follow every task of an accepted attempt, and put the result together; what was made is kept beside errors."""
    accepted = started.accepted
    candidate = watch.candidate = accepted.step.candidate
    watch.attempt = started.attempt
    tasks = accepted.handle.tasks if accepted.handle else ()
    pairs: list[tuple[Task | None, State | None]] = [(task_of(state), state) for state in accepted.states]
    pairs = pairs or [(task, None) for task in tasks]
    if len(pairs) == 1:
        outcomes = [(yield from follow_task(watch, *pairs[0]))]
    else:
        outcomes = watch.see(
            (yield All(tuple(safely(follow_task(watch.fork(), task, state)) for task, state in pairs)))
        )
    watch.see((yield Release(candidate)))
    for part, one in zip(accepted.parts or range(len(outcomes)), outcomes, strict=False):
        if isinstance(one, Made) or one.state is not JobState.RUNNING:
            watch.see((yield Persist(_part_end(watch, started, part, one))))
    made = [one for one in outcomes if isinstance(one, Made)]
    ends = [*(one for one in outcomes if isinstance(one, Ended)), *accepted.refused]
    ends += [end for one in made for end in one.ends]
    ends += _missing(accepted.step, made, ends)
    if not made:
        end = gravest(ends)
        started.trail.add(watch, accepted.step, end, accepted.handle, started.began_s)
        return end
    result = _result(watch, started, made, ends)
    watch.see((yield Persist(JobEnd(watch.job_id, watch.attempt, JobState.SUCCEEDED, result))))
    watch.see((yield watch.emit(Finished, state=JobState.SUCCEEDED, maybe_charged=True)))
    return result


def _part_end(watch: Watch, started: Started, part: int, one: Made | Ended) -> PartEnd:
    """What the ledger keeps of a task that has ended."""
    step, handle = started.accepted.step, started.accepted.handle
    if isinstance(one, Ended):
        return PartEnd(watch.job_id, watch.attempt, part, "accepted", one.kind, one.message, one.maybe_charged)
    mode = handle.mode if handle else step.orders[0].mode
    cost = _with_lost(step.candidate, [one], one.ends, mode, _cost(step.candidate, one, mode))
    return PartEnd(watch.job_id, watch.attempt, part, "accepted", maybe_charged=True, cost=cost)


def _missing(step: Step, made: Sequence[Made], ends: Sequence[Ended]) -> list[Ended]:
    """An end for images that were asked for and that nobody accounts for: a provider may answer with fewer."""
    asked = sum(order.num_images for order in step.orders)
    found = sum(len(one.images) for one in made)
    gone = sum(end.images for end in ends)
    if not made or asked <= found + gone:
        return []
    message = f"{asked} images were asked for, and {found} came, without a word on the others"
    return [Ended(Kind.GENERATION_FAILED, message, maybe_charged=True, images=asked - found - gone)]


def _result(watch: Watch, started: Started, made: Sequence[Made], ends: Sequence[Ended]) -> ImageResult:
    accepted, trail = started.accepted, started.trail
    candidate, handle = accepted.step.candidate, accepted.handle
    first = made[0].succeeded
    images: tuple[ResultImage, ...] = tuple(image for one in made for image in one.images)
    mode = handle.mode if handle else accepted.step.orders[0].mode
    costs = [_cost(candidate, one, mode) for one in made]
    cost = sum(costs[1:], start=costs[0])
    spent = _with_lost(candidate, made, ends, mode, cost)
    spent = trail.at_risk + spent if any(attempt.maybe_charged for attempt in trail.attempts) else spent
    seconds = watch.seconds - started.began_s
    trail.attempts.append(
        Attempt(candidate.provider.name, candidate.model, "succeeded", maybe_charged=True, seconds=seconds)
    )
    return ImageResult(
        images=images,
        provider=candidate.provider.name,
        adapter=candidate.provider.adapter.facts.name,
        model=candidate.model,
        mode=mode,
        seed=first.seed,
        prompt=first.prompt,
        cost=cost,
        spent=spent,
        adjustments=accepted.step.adjustments,
        attempts=tuple(trail.attempts),
        errors=tuple(end.error(candidate, watch.job_id, handle) for end in ends),
        job=handle,
        job_id=watch.job_id,
        timings=Timings(accepted.at_s if handle else None, max(one.ready_s for one in made), watch.seconds),
        raw={_name(one.succeeded): without_signatures(one.succeeded.raw) for one in made},
    )


def _with_lost(candidate: Candidate, made: Sequence[Made], ends: Sequence[Ended], mode: str, cost: Cost) -> Cost:
    """The cost, and the listed price of images that may have been charged and did not come.

    What the provider reports for a task, in money or units, is for all of its images, those that it withheld too.
    """
    told = [end for one in made if (one.succeeded.cost_usd, one.succeeded.units) != (None, None) for end in one.ends]
    lost = [end for end in ends if end.maybe_charged and not any(end is one for one in told)]
    return cost + candidate.price(mode).times(sum(end.images for end in lost)) if lost else cost


def _name(done: Succeeded) -> str:
    return done.task.id if done.task else ""


def _cost(candidate: Candidate, made: Made, mode: str) -> Cost:
    reported = made.succeeded.cost_usd
    if reported is not None:
        return Cost(reported.quantize(Decimal("0.000001")).normalize() + 0, "USD", "reported")
    units = made.succeeded.units
    return candidate.price(mode).times(len(made.images) if units is None else units)


def _goes_on(policy: Policy, end: Ended) -> bool:
    """Whether the next candidate may be tried: only when no task of the attempt forbids it."""
    return all(policy.goes_on_after(one.kind, maybe_charged=one.maybe_charged) for one in end.all)


def _go_on(watch: Watch, end: Ended) -> Flow[None]:
    event = watch.emit(FailingOver, kind=end.kind, reason=end.message, maybe_charged=end.maybe_charged)
    watch.see((yield event))


def _give_up(watch: Watch, trail: Trail, end: Ended, *, all_passed_over: bool) -> Flow[ProviderError]:
    error = trail.error(all_passed_over=all_passed_over)
    if end.state is not JobState.RUNNING:
        watch.see((yield Persist(JobEnd(watch.job_id, watch.attempt, end.state, error=error))))
    watch.see((yield watch.emit(Finished, state=end.state, maybe_charged=error.maybe_charged)))
    return error
