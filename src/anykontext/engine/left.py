"""Attempts that were left while a task of theirs may still end well: they are followed on the side, and not lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from anykontext.engine.attempt import Started, follow_job
from anykontext.engine.effects import Aside, Await, Flow, Persist
from anykontext.engine.ends import Ended
from anykontext.engine.entries import JobEnd
from anykontext.engine.submit import task_of
from anykontext.engine.trail import Trail
from anykontext.engine.watch import Watch
from anykontext.model.job import JobState
from anykontext.model.result import ImageResult

FOLLOW_S = 3600.0  # an attempt that was left is followed so long; then the ledger still has its handle


@dataclass(slots=True)
class Left:
    """One attempt that was left.

    Attributes:
        aside: What follows it.
        started: What of it is followed, with a trail of its own.
        place: Its place in the trail of the job.
        over: Whether it has ended, and the trail of the job knows how.
    """

    aside: Aside
    started: Started
    place: int
    over: bool = False


def what_runs(started: Started, end: Ended, trail: Trail) -> Started | None:
    """The part of an attempt that may still end well, to be followed on; None where nothing of it may.

    Args:
        started: The attempt.
        end: How it was left.
        trail: What was tried before it.
    """
    accepted = started.accepted
    tasks = tuple(one.task for one in end.all if one.task is not None)
    if accepted.handle is None or not tasks:
        return None
    named = [task_of(state) for state in accepted.states] or list(accepted.handle.tasks)
    place = {task.id: part for task, part in zip(named, accepted.parts or range(len(named)), strict=False) if task}
    tasks = tuple(sorted(tasks, key=lambda task: place[task.id]))
    rest = replace(
        accepted,
        handle=replace(accepted.handle, tasks=tasks),
        states=(),
        refused=tuple(one for one in end.all if one.task is None),
        parts=tuple(place[task.id] for task in tasks),
    )
    return replace(started, accepted=rest, trail=trail, aside=True)


@dataclass(slots=True)
class Lefts:
    """All attempts of a job that were left.

    Attributes:
        all: In their order.
        given_up: Whether the caller has been told that there is no image: then the last of them ends the job.
    """

    all: list[Left] = field(default_factory=list)
    given_up: bool = False

    @property
    def running(self) -> list[Left]:
        """Those that have not ended, as far as the trail of the job knows."""
        return [one for one in self.all if not one.over]


def on_the_side(watch: Watch, started: Started, lefts: Lefts) -> Flow[ImageResult | Ended]:
    """Follow an attempt that was left. A job that nobody waits for any more ends with it, unless another one runs."""
    outcome = yield from follow_job(watch, started)
    if isinstance(outcome, Ended) and lefts.given_up and outcome.state is not JobState.RUNNING:
        error = started.trail.error(all_passed_over=False)
        watch.see((yield Persist(JobEnd(watch.job_id, watch.attempt, outcome.state, error=error))))
    return outcome


def first_image(
    watch: Watch, trail: Trail, lefts: Sequence[Left], within_s: float
) -> Flow[tuple[Left, ImageResult] | None]:
    """The image of an attempt that was left, if one comes within the time; the trail is told how they ended."""
    until = watch.seconds + within_s
    waiting = [left for left in lefts if not left.over]
    while waiting:
        asides = tuple(one.aside for one in waiting)
        told = watch.see((yield Await(asides, max(until - watch.seconds, 0.0))))
        if told is None:
            return None
        left = waiting.pop(told[0])
        if isinstance(told[1], ImageResult | Ended):
            left.over = True
            trail.ended_late(left.place, left.started.trail)
        if isinstance(told[1], ImageResult):
            watch.candidate = left.started.accepted.step.candidate
            return left, trail.with_late(told[1])
    return None


def all_news(watch: Watch, trail: Trail, lefts: Lefts) -> Flow[None]:
    """Tell the trail how those that were left have ended by now: a result is about to say what was spent."""
    candidate = watch.candidate
    while (yield from first_image(watch, trail, lefts.running, 0.0)) is not None:
        watch.candidate = candidate
