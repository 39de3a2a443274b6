"""A job is a flow of flows: candidates are tried one after the other, by the rules of money and of the caller."""

from collections.abc import Sequence
from dataclasses import replace

from anykontext.engine.attempt import Over, Started, follow_job, over
from anykontext.engine.effects import Aside, Detach, Flow, Persist, Release
from anykontext.engine.ends import Ended, safely
from anykontext.engine.entries import JobEnd
from anykontext.engine.left import FOLLOW_S, Left, Lefts, all_news, first_image, on_the_side, what_runs
from anykontext.engine.policy import Policy
from anykontext.engine.submit import Accepted, Forbidden, Step, submit_attempt
from anykontext.engine.trail import Trail
from anykontext.engine.watch import Watch
from anykontext.model.errors import AnykontextError, Kind, ProviderError
from anykontext.model.events import FailingOver, Finished
from anykontext.model.job import JobState
from anykontext.model.result import ImageResult


def start_job(
    watch: Watch, steps: Sequence[Step], policy: Policy, trail: Trail | None = None
) -> Flow[Started | ProviderError]:
    """Submit until a candidate accepts.

    Raises:
        BudgetExceeded: A cap has no room for it; what was tried before is in its notes.
        ConfigurationError: The ledger could not be written: nothing was sent.
    """
    trail = trail or Trail()
    outcome = yield from _accepted(watch, steps, policy, trail)
    return (yield from _give_up(watch, trail, outcome)) if isinstance(outcome, Over) else outcome


def _accepted(
    watch: Watch, steps: Sequence[Step], policy: Policy, trail: Trail, *, first: int = 0, end: Ended | None = None
) -> Flow[Started | Over]:
    """Submit until a candidate accepts, from `steps[first]` on; `end` is that of the attempt before."""
    if len(steps) == 1:
        policy = replace(policy, breaker=False)  # passed over for whom?
    for index in range(first, len(steps)):
        step, began_s = steps[index], watch.seconds
        is_last = index + 1 == len(steps)
        watch.begin_attempt(policy.attempt_share, is_last=is_last, leaves_paid=policy.on_maybe_charged == "continue")
        outcome = yield from submit_attempt(watch, step, _capped(policy, trail), is_last=is_last)
        if isinstance(outcome, Accepted):
            return Started(outcome, trail, index, began_s, attempt=watch.attempt)
        if isinstance(outcome, Forbidden):
            watch.see((yield Release(step.candidate)))
            return Over(end, forbidden=outcome.error)
        end = outcome
        watch.attempt += 1
        watch.see((yield Release(step.candidate)))
        trail.add(watch, step, outcome, None, began_s)
        end_of_all = over(watch, policy, outcome, is_last=is_last)
        if is_last and watch.left_s > 0 and (resort := trail.last_resort()) is not None:
            yield from _go_on(watch, outcome)
            last = yield from _accepted(watch, [resort], policy, trail)
            return replace(last, index=index) if isinstance(last, Started) else last
        if end_of_all is not None:
            return end_of_all
        yield from _go_on(watch, outcome)
    raise AssertionError("a plan has at least one step")


def run_job(watch: Watch, steps: Sequence[Step], policy: Policy) -> Flow[ImageResult | ProviderError]:
    """The whole job: submit, follow, fetch; and the next candidate where the policy says so.

    An attempt that was left while its task may still end well is followed on the side. It is never left alone for an
    error: while there is time, its image is waited for.
    """
    trail, lefts = Trail(), Lefts()
    outcome = yield from _accepted(watch, steps, policy, trail)
    while isinstance(outcome, Started):
        started, before = outcome, trail.copy()
        is_last = started.index + 1 == len(steps)
        end = yield from follow_job(watch, started, None if is_last else policy, lambda: all_news(watch, trail, lefts))
        if isinstance(end, ImageResult):
            return end
        stop, earlier = over(watch, policy, end, is_last=is_last), [*lefts.all]
        if stop is None or lefts.all:
            yield from _leave(watch, started, end, before, lefts)
        late = yield from first_image(watch, trail, earlier, 0.0)
        if late is not None:
            return (yield from _finished(watch, *late))
        watch.attempt += 1
        if stop is None:
            yield from _go_on(watch, end)
            outcome = yield from _accepted(watch, steps, policy, trail, first=started.index + 1, end=end)
        else:
            outcome = stop
    late = yield from first_image(watch, trail, lefts.all, watch.left_s)
    if late is not None:
        return (yield from _finished(watch, *late))
    lefts.given_up = True
    return (yield from _give_up(watch, trail, outcome, [left.place for left in lefts.running]))


def _leave(watch: Watch, started: Started, end: Ended, before: Trail, lefts: Lefts) -> Flow[None]:
    """Leave an attempt: what of it may still end well is followed on the side; a success counts, however late."""
    rest = what_runs(started, end, before)
    if rest is None:
        return
    clock = watch.fork()
    clock.keep_on()
    clock.deadline_s = clock.seconds + FOLLOW_S
    aside = Aside(watch.job_id, safely(on_the_side(clock, rest, lefts)))
    watch.see((yield Detach(aside)))
    lefts.all.append(Left(aside, rest, len(started.trail.attempts) - 1))


def wait_for(watch: Watch, started: Started) -> Flow[ImageResult | ProviderError]:
    """Follow one accepted attempt to its end; no other candidate is tried."""
    watch.keep_on()
    outcome = yield from follow_job(watch, started)
    return outcome if isinstance(outcome, ImageResult) else (yield from _give_up(watch, started.trail, Over(outcome)))


def _capped(policy: Policy, trail: Trail) -> Policy:
    """The policy of the next submit: one that goes on after something maybe paid is under one more cap."""
    at_risk = policy.at_risk_cap is not None and any(attempt.maybe_charged for attempt in trail.attempts)
    return replace(policy, caps=(*policy.caps, policy.at_risk_cap)) if at_risk else policy  # type: ignore[arg-type]


def _go_on(watch: Watch, end: Ended) -> Flow[None]:
    event = watch.emit(FailingOver, kind=end.kind, reason=end.message, maybe_charged=end.maybe_charged)
    watch.see((yield event))


def _finished(watch: Watch, left: Left, late: ImageResult) -> Flow[ImageResult]:
    """The image of an attempt that was left: it is in the ledger, and becomes what the job gave its caller."""
    watch.see((yield Persist(JobEnd(watch.job_id, left.started.attempt, JobState.SUCCEEDED, late))))
    watch.see((yield watch.emit(Finished, state=JobState.SUCCEEDED, maybe_charged=True)))
    return late


def _give_up(watch: Watch, trail: Trail, stop: Over, running: Sequence[int] = ()) -> Flow[ProviderError]:
    """End the job without an image; unless an attempt of it, at one of these places of the trail, still runs.

    Raises:
        Exception: What forbade the next submit, with notes of what was tried before.
    """
    end, forbidden = stop.end, stop.forbidden
    if forbidden is not None and (end is None or not trail.attempts):
        raise forbidden
    assert end is not None
    lost = any(one.outcome == Kind.OUTCOME_UNKNOWN and one.maybe_charged for one in trail.attempts)
    ended = JobState.FAILED if end.state is JobState.RUNNING and running else end.state
    ended = JobState.UNKNOWN if lost and ended is not JobState.RUNNING else ended
    state = JobState.RUNNING if running else ended
    speaks = running[-1] if running else -1
    error = trail.error(all_passed_over=stop.all_passed_over and not running, place=speaks)
    if ended is not JobState.RUNNING:  # while one runs the ledger keeps the job open, until that one ends it
        watch.see((yield Persist(JobEnd(watch.job_id, watch.attempt, ended, error=error))))
    watch.see((yield watch.emit(Finished, state=state, maybe_charged=error.maybe_charged)))
    if forbidden is None:
        return error
    if running:
        error.add_note(f"no other candidate was tried: {forbidden}")
        return error
    raise _after(forbidden, error)


def _after(forbidden: Exception, error: ProviderError) -> Exception:
    """What forbade a submit, with what was tried before it in its notes and its cause."""
    for one in error.errors:
        forbidden.add_note(f"before it, {one.provider}/{one.model} was tried ({one.kind}): {one.message}")
    if error.maybe_charged:
        forbidden.add_note(f"money may have been spent on {error.job_id}: `anykontext jobs show {error.job_id}`")
    if isinstance(forbidden, AnykontextError):
        forbidden.maybe_charged, forbidden.attempts, forbidden.errors = (
            error.maybe_charged,
            error.attempts,
            error.errors,
        )
        forbidden.job_id, forbidden.handle = error.job_id, error.handle
    forbidden.__cause__ = error
    return forbidden
