"""A submitted job in the caller's hand: thin twins over the engine."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anykontext.adapting import Cancels, Task
from anykontext.client.core import Options, seconds
from anykontext.engine.check import cancel, look
from anykontext.engine.ends import Ended
from anykontext.engine.job import Started, Trail, wait_for
from anykontext.io.notify import Notifier
from anykontext.model.errors import InvalidRequest, Kind, ProviderError, UnsupportedOption
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import NOTHING, Cost
from anykontext.model.result import ImageResult

if TYPE_CHECKING:
    from anykontext.io.drive_async import AsyncDriver
    from anykontext.io.drive_sync import SyncDriver

# Ends of a task, as a single look can find them; all others are ends of the question only.
FINAL = {
    Kind.MODERATED: JobState.MODERATED,
    Kind.GENERATION_FAILED: JobState.FAILED,
    Kind.CANCELLED: JobState.CANCELLED,
}
DONE = frozenset({*FINAL.values(), JobState.SUCCEEDED, JobState.EXPIRED})


class _Job:
    """What both kinds of job know."""

    def __init__(
        self, driver: Any, started: Started, job_id: str, options: Options, check_usable: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._check_usable = check_usable
        self._started = started
        self._options = options
        self._state = JobState.RUNNING if self._tasks else JobState.SUCCEEDED
        self._result: ImageResult | None = started.result
        self._error: ProviderError | None = None
        self.id = job_id

    @property
    def state(self) -> JobState:
        """Where the job is, as far as `refresh` or `wait` has found out."""
        return self._state

    @property
    def done(self) -> bool:
        """Whether the provider has ended it, as far as is known; its images may still have to be fetched by `wait`."""
        return self._state in DONE

    @property
    def handle(self) -> JobHandle | None:
        """What resumes it anywhere; None at a provider that names no task."""
        return self._started.accepted.handle

    @property
    def handles(self) -> tuple[JobHandle, ...]:
        """The handles of every attempt of this job that a provider named a task for, in order."""
        earlier = tuple(error.handle for error in self._started.trail.errors if error.handle is not None)
        return earlier if self.handle is None else (*earlier, self.handle)

    @property
    def at_risk(self) -> Cost:
        """What may have been charged without an image in hand: earlier attempts, and this one until it has ended."""
        step, trail = self._started.accepted.step, self._started.trail
        if self._result is not None:
            return trail.at_risk + step.price_of(sum(error.maybe_charged for error in self._result.errors), self.handle)
        ended_free = self._error is not None and not self._error.maybe_charged
        return trail.at_risk + (NOTHING if ended_free else step.price)

    @property
    def _tasks(self) -> tuple[Task, ...]:
        return self.handle.tasks if self.handle else ()

    def _fresh(self) -> Started:
        """The attempt, with a trail of its own, so that waiting twice records it once."""
        trail = self._started.trail
        return replace(self._started, began_s=0.0, trail=Trail([*trail.attempts], [*trail.errors], trail.at_risk))

    def _take(self, outcome: ImageResult | ProviderError) -> ImageResult:
        if isinstance(outcome, ProviderError):
            self._error = outcome
            self._state = FINAL.get(outcome.kind, self._state)
            if outcome.kind is Kind.RESULT_EXPIRED:
                self._state = JobState.EXPIRED
            raise outcome
        self._result, self._state = outcome, JobState.SUCCEEDED
        return outcome

    def _seen(self, found: list[JobState | Ended]) -> None:
        states = [FINAL.get(one.kind) if isinstance(one, Ended) else one for one in found]
        if any(state in {None, JobState.RUNNING} for state in states):
            return
        good = any(state is JobState.SUCCEEDED for state in states)
        self._state = JobState.SUCCEEDED if good else next(state for state in states if state)

    def _cancellable(self) -> None:
        self._check_usable()
        candidate = self._started.accepted.step.candidate
        if not isinstance(candidate.provider.adapter, Cancels):
            raise UnsupportedOption(
                f"{candidate.provider.name} cannot cancel a task; it runs on, and `wait` still collects it",
                option="cancel",
                asked=self.id,
                allowed=None,
                provider=candidate.provider.name,
            )
        if not self._tasks:
            raise InvalidRequest("this job has no task to cancel")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._state} at {self._started.accepted.step.candidate.name}>"


class Job(_Job):
    """An accepted job, made by `Client.submit` or `Client.resume`."""

    _driver: "SyncDriver"

    def wait(self, deadline: float | None = None) -> ImageResult:
        """Follow this attempt to its end and fetch its images.

        Args:
            deadline: Seconds from now; None for the config's.

        Raises:
            ProviderError: It gave no image; `DeadlineExceeded` leaves it running, to be waited for again.
        """
        if self._result is not None:
            return self._result
        self._check_usable()
        watch = self._driver.watch(self.id, seconds(deadline, self._options.deadline_s))
        return self._take(self._driver.run(wait_for(watch, self._fresh()), self._options.notifier))

    def refresh(self) -> "Job":
        """Ask the provider once how it is, and return this job; a question that fails changes nothing."""
        if not self.done:
            self._check_usable()
            watch = self._driver.watch(self.id, self._options.deadline_s)
            candidate = self._started.accepted.step.candidate
            self._seen([self._driver.run(look(watch, candidate, task), Notifier()) for task in self._tasks])
        return self

    def cancel(self) -> "Job":
        """Ask the provider to stop; it may end well all the same.

        Raises:
            UnsupportedOption: The provider cannot cancel.
            ProviderError: The provider refused.
        """
        self._cancellable()
        watch, candidate = self._driver.watch(self.id, self._options.deadline_s), self._started.accepted.step.candidate
        for task in self._tasks:
            outcome = self._driver.run(cancel(watch, candidate, task), Notifier())
            if isinstance(outcome, Ended):
                raise outcome.error(candidate, self.id, self.handle)
        return self


class AsyncJob(_Job):
    """An accepted job, made by `AsyncClient.submit` or `AsyncClient.resume`."""

    _driver: "AsyncDriver"

    async def wait(self, deadline: float | None = None) -> ImageResult:
        """See `Job.wait`."""
        if self._result is not None:
            return self._result
        self._check_usable()
        watch = self._driver.watch(self.id, seconds(deadline, self._options.deadline_s))
        return self._take(await self._driver.run(wait_for(watch, self._fresh()), self._options.notifier))

    async def refresh(self) -> "AsyncJob":
        """See `Job.refresh`."""
        if not self.done:
            self._check_usable()
            watch = self._driver.watch(self.id, self._options.deadline_s)
            candidate = self._started.accepted.step.candidate
            flows = [look(watch.fork(), candidate, task) for task in self._tasks]
            self._seen(list(await asyncio.gather(*(self._driver.run(flow, Notifier()) for flow in flows))))
        return self

    async def cancel(self) -> "AsyncJob":
        """See `Job.cancel`."""
        self._cancellable()
        watch, candidate = self._driver.watch(self.id, self._options.deadline_s), self._started.accepted.step.candidate
        for task in self._tasks:
            outcome = await self._driver.run(cancel(watch, candidate, task), Notifier())
            if isinstance(outcome, Ended):
                raise outcome.error(candidate, self.id, self.handle)
        return self
