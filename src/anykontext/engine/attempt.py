"""One accepted attempt: its tasks are followed, and what they made is put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from anykontext.adapting import Kind, State, Succeeded, Task
from anykontext.engine.effects import All, Flow, Observed, Persist, Release
from anykontext.engine.ends import Ended, gravest, safely
from anykontext.engine.entries import JobEnd, PartEnd
from anykontext.engine.follow import Made, follow_task
from anykontext.engine.policy import OUTAGES, Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.redact import without_signatures
from anykontext.engine.submit import Accepted, Step, task_of
from anykontext.engine.trail import Trail
from anykontext.engine.watch import Watch
from anykontext.model.events import Finished
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import Cost
from anykontext.model.result import Attempt, ImageResult, ResultImage, Timings


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
        aside: Whether nobody is sure to be given its images: it was left, or is collected from the ledger.
    """

    accepted: Accepted
    trail: Trail
    index: int
    began_s: float
    result: ImageResult | None = None
    attempt: int = 0
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """No candidate is tried any more.

    Attributes:
        end: Of the last attempt; None where there was none.
        all_passed_over: Whether it was the last candidate, and the policy would have gone on.
        forbidden: What forbids the next submit.
    """

    end: Ended | None
    all_passed_over: bool = False
    forbidden: Exception | None = None


def over(watch: Watch, policy: Policy, end: Ended, *, is_last: bool) -> Over | None:
    """Whether no other candidate is tried after this end."""
    goes_on, too_late = _goes_on(policy, end), end.kind is Kind.DEADLINE_EXCEEDED
    used_up = watch.left_s <= 0 or (too_late and end.maybe_charged and watch.paid_until_s is None)
    if not is_last and goes_on and not used_up:
        return None
    return Over(end, all_passed_over=goes_on and is_last and not too_late)


def _goes_on(policy: Policy, end: Ended) -> bool:
    """Whether the next candidate may be tried: only when no task of the attempt forbids it."""
    return end.skipped is not None or all(
        policy.goes_on_after(one.kind, maybe_charged=one.maybe_charged) for one in end.all
    )


def resumed(
    candidate: Candidate, handle: JobHandle, attempt: int = 0, parts: tuple[int, ...] = (), *,
    lost: tuple[Ended, ...] = (), trail: Trail | None = None,
) -> Started:  # fmt: skip
    """A job that goes on from its handle, in this process or another.

    Args:
        candidate: Where it runs.
        handle: Its tasks.
        attempt: The number of the attempt, where the ledger knows it.
        parts: Which parts of the attempt the tasks are.
        lost: The ends of its other parts.
        trail: The other attempts of the job.
    """
    most = len(handle.tasks) * candidate.provider.adapter.facts.images_per_task
    step = Step(candidate, (), handle.adjustments, candidate.price(handle.mode).times(most))
    return Started(Accepted(step, handle, (), lost, 0.0, parts), trail or Trail(), 0, 0.0, attempt=attempt, aside=True)


def follow_job(
    watch: Watch, started: Started, policy: Policy | None = None, news: Callable[[], Flow[None]] | None = None
) -> Flow[ImageResult | Ended]:
    """Follow every task of an accepted attempt, and put the result together; what was made is kept beside errors.

    `policy` decides whether another candidate is tried after it, None where there is none: then a task that may still
    end well is followed on, and its end is not written yet. `news` brings the trail up to date before a result is made.
    """
    accepted = started.accepted
    candidate = watch.candidate = accepted.step.candidate
    watch.attempt = started.attempt
    tasks = accepted.handle.tasks if accepted.handle else ()
    pairs: list[tuple[Task | None, State | None]] = [(task_of(state), state) for state in accepted.states]
    pairs = pairs or [(task, None) for task in tasks]
    if len(pairs) == 1:
        outcomes = [(yield from follow_task(watch, *pairs[0]))]
    else:
        outcomes = yield from _side_by_side(watch, pairs)
    watch.see((yield Release(candidate)))
    made = [one for one in outcomes if isinstance(one, Made)]
    ends = [*(one for one in outcomes if isinstance(one, Ended)), *accepted.refused]
    left = not made and policy is not None and over(watch, policy, gravest(ends), is_last=False) is None
    parts = [*zip(accepted.parts or range(len(outcomes)), outcomes, strict=False)]
    for part, one in parts:
        if isinstance(one, Ended) and not (one.state is JobState.RUNNING or (left and one.task)):
            watch.see((yield Persist(_part_end(watch, started, part, one))))
    ends += [end for one in made for end in one.ends]
    ends += _missing(accepted.step, made, ends)
    if not made:
        end = gravest(ends)
        if end.kind in OUTAGES:
            watch.see((yield Observed(candidate, end.kind)))
        started.trail.add(watch, accepted.step, end, accepted.handle, started.began_s)
        return end
    if news is not None:
        yield from news()
    result = _result(watch, started, made, ends)
    # The images first: a task whose end is written is not asked for again, so that they must be known by then.
    end_of_job = JobEnd(watch.job_id, watch.attempt, JobState.SUCCEEDED, result, aside=started.aside)
    watch.see((yield Persist(end_of_job)))
    for part, one in parts:
        if isinstance(one, Made):
            watch.see((yield Persist(_part_end(watch, started, part, one))))
    watch.see((yield watch.emit(Finished, state=JobState.SUCCEEDED, maybe_charged=True)))
    return result


def _side_by_side(watch: Watch, pairs: Sequence[tuple[Task | None, State | None]]) -> Flow[list[Made | Ended]]:
    """Follow several tasks at the same time.

    When one has an image, its attempt is not left for another candidate: those beside it have the whole deadline.
    """
    flows = tuple(safely(follow_task(watch.fork(), task, state)) for task, state in pairs)
    outcomes: list[Made | Ended] = watch.see((yield All(flows)))
    late = [at for at, one in enumerate(outcomes) if isinstance(one, Ended) and one.state is JobState.RUNNING]
    if watch.left_s > 0 and late and any(isinstance(one, Made) for one in outcomes):
        watch.keep_on()
        again = tuple(safely(follow_task(watch.fork(), pairs[at][0], None)) for at in late)
        for at, one in zip(late, watch.see((yield All(again))), strict=True):
            outcomes[at] = one
    return outcomes


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
    trail.costs[len(trail.attempts)] = _with_lost(candidate, made, ends, mode, cost)
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
        spent=trail.spent,
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
    if units is not None:
        return candidate.unit_price(mode).times(units)
    costs = [candidate.price(mode, (image.width, image.height)) for image in made.images]
    return sum(costs[1:], start=costs[0])
