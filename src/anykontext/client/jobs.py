"""A job in the caller's hand, submitted here or known from the ledger: thin twins over the engine."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from anykontext.adapting import Cancels, State, Task
from anykontext.client.asking import FINAL, startable, to_ask, trail_of, wait_for_all
from anykontext.client.core import Core
from anykontext.client.options import Options, seconds
from anykontext.client.past import error_of, in_doubt, latest_handles, result_of, surplus_of
from anykontext.engine.attempt import Started
from anykontext.engine.check import cancel, look
from anykontext.engine.ends import STATE_OF_KIND, Ended
from anykontext.engine.job import start_job, wait_for
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.submit import Step
from anykontext.engine.watch import Watch
from anykontext.io.exchange import interrupted
from anykontext.io.notify import Notifier
from anykontext.ledger import JobRecord, LedgerError, is_ended
from anykontext.model.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    Kind,
    ProviderError,
    UnsupportedOption,
)
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import NOTHING, Cost
from anykontext.model.result import ImageResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anykontext.engine.effects import Flow
    from anykontext.io.drive_async import AsyncDriver
    from anykontext.io.drive_sync import Running, SyncDriver

T = TypeVar("T")
FOLLOW_S = 3600.0  # a job that nobody waits for is followed so long; then `recover` or `jobs collect` can
LOOK_S = 0.25  # between two looks into the ledger for the handle of a job that another process submits
STATE_OF_FINAL = {kind: STATE_OF_KIND.get(kind, JobState.FAILED) for kind in FINAL}
DONE = frozenset({*STATE_OF_FINAL.values(), JobState.SUCCEEDED, JobState.EXPIRED})


def followed(
    watch: Watch, steps: "Sequence[Step]", policy: Policy, accepted: Callable[[Started], None]
) -> "Flow[ImageResult | ProviderError]":
    """Submit until a candidate accepts, say so, and follow that attempt to its end, waited for or not."""
    started = yield from start_job(watch, steps, policy)
    if not isinstance(started, Started):
        return started
    if started.accepted.handle is not None:  # else its images are here already, and nothing is left to follow
        accepted(replace(started, trail=started.trail.copy()))
        watch.deadline_s = watch.seconds + FOLLOW_S
    outcome = yield from wait_for(watch, started)
    if started.accepted.handle is None and isinstance(outcome, ImageResult):
        accepted(replace(started, trail=started.trail.copy(), result=outcome))
    return outcome


def then(
    flow: "Flow[ImageResult | ProviderError]", ended: Callable[[], None], left: Callable[[], None]
) -> "Flow[ImageResult | ProviderError]":
    """A flow, and what to call when it is over: whether with images, or in any other way."""
    after = left
    try:
        outcome = yield from flow
        after = ended if isinstance(outcome, ImageResult) else left
        return outcome
    finally:
        after()


class _Job:
    """What both kinds of job know."""

    def __init__(
        self,
        core: Core,
        driver: Any,
        job_id: str,
        options: Options,
        check_usable: Callable[[], None],
        *,
        started: Started | None = None,
        record: JobRecord | None = None,
        taken: bool = False,
    ) -> None:
        self._core = core
        self._driver = driver
        self._check_usable = check_usable
        self._started = started
        self._record = record
        self._taken = taken  # over from a process that is gone, or from nobody: it is ours to poll
        self._options = options
        self._result: ImageResult | None = started.result if started else None
        self._error: ProviderError | None = None
        self._following: Any = None
        self._state = JobState.SUCCEEDED if self._result else JobState.RUNNING
        if record is not None and started is None:
            self._state = record.state
        self.id = job_id

    @property
    def state(self) -> JobState:
        """Where the job is, as far as this process has found out."""
        return self._state

    @property
    def done(self) -> bool:
        """Whether the provider has ended it, as far as is known; its images may still have to be fetched by `wait`."""
        return self._state in DONE

    @property
    def handle(self) -> JobHandle | None:
        """What resumes it anywhere; None at a provider that names no task."""
        if self._started is not None:
            return self._started.accepted.handle
        kept = self._kept()
        return kept[-1] if kept else None  # the latest attempt that was accepted

    @property
    def handles(self) -> tuple[JobHandle, ...]:
        """The handles of every attempt of this job that a provider named a task for, in order."""
        if self._started is None:
            return self._kept()
        earlier = tuple(error.handle for error in self._started.trail.errors if error.handle is not None)
        return earlier if self.handle is None else (*earlier, self.handle)

    @property
    def at_risk(self) -> Cost:
        """What may have been charged without an image in hand: earlier attempts, and this one until it has ended."""
        if self._started is None or self._record is not None:
            return self._risk_in_ledger()
        step, trail = self._started.accepted.step, self._started.trail
        if self._result is not None:
            return trail.at_risk + step.price_of(sum(error.maybe_charged for error in self._result.errors), self.handle)
        ended_free = self._error is not None and not self._error.maybe_charged
        return trail.at_risk + (NOTHING if ended_free else step.price)

    def _kept(self) -> tuple[JobHandle, ...]:
        return tuple(handle for _, handle, _ in latest_handles(self._core.ledger.handles(self.id)))

    def _risk_in_ledger(self) -> Cost:
        risks = [one.price for one in self._core.ledger.sends(self.id) if one.money == "risk"]
        if any(price is None for price in risks):
            return Cost()
        total = sum((price for price in risks if price is not None), start=Decimal(0))
        return Cost(total, "USD", "listed") if risks else NOTHING

    @property
    def _tasks(self) -> tuple[Task, ...]:
        return self.handle.tasks if self.handle else ()

    def _to_ask(self) -> tuple[Candidate, tuple[Task, ...]] | None:
        """What can be asked about, and where; it reads the ledger, and the key."""
        return (self._candidate, self._tasks) if self._tasks else None

    @property
    def _candidate(self) -> Candidate:
        """Where its handle leads.

        Raises:
            InvalidRequest: No provider has named a task for it.
            ConfigurationError: Its provider is not configured here.
        """
        if self._started is not None:
            return self._started.accepted.step.candidate
        if (handle := self.handle) is None:
            raise InvalidRequest(f"{self.id} has no task: nothing can be asked about it")
        return self._core.started(handle).accepted.step.candidate

    def _askable(self) -> list[Started]:
        """Every attempt of a job of the ledger that may still give an image, the latest first.

        Raises:
            ConfigurationError: There are some, and none of them can be asked for with what is configured here.
        """
        assert self._record is not None
        ledger = self._core.ledger
        return startable(to_ask(self._record, ledger.handles(self.id), ledger.sends(self.id)), self._core.started)

    def _known(self) -> ImageResult | None:
        """The result, where it is known; None where it must be waited for.

        Raises:
            ProviderError: It ended otherwise, or nobody knows how.
        """
        if self._result is None and self._record is not None and not self._taken:
            ledger, spool = self._core.ledger, self._core.spool
            self._record = ledger.job(self.id) or self._record
            handles = ledger.handles(self.id)
            self._state = self._record.state
            if self._state is JobState.SUCCEEDED:
                self._result = result_of(self._record, handles, spool, trail_of(ledger.sends(self.id)))
            elif is_ended(self._state):
                late = surplus_of(self._record, ledger.events(self.id))
                if late is not None:
                    self._result = result_of(late, handles, spool, trail_of(ledger.sends(self.id)))
                elif not self._asks_again():
                    raise error_of(self._record, handles)
            elif self._state is JobState.UNKNOWN and not handles:
                raise error_of(self._record, handles)
        return self._result

    def _asks_again(self) -> bool:
        """Whether a job that has ended may still give an image, and can be asked for it here."""
        try:
            return bool(self._askable())
        except ConfigurationError:
            return False

    def _take_up(self) -> bool:
        """Whether it is ours to poll: nobody else works on it, or it was given to us by its handle."""
        if not self._taken:
            taken = self._core.store.claims.take(self.id)
            self._taken = taken is not None
            self._record = self._record and (taken or self._record)
        return self._taken or self._record is None or is_ended(self._record.state)

    def _to_poll(self) -> list[Started]:
        """The attempts to be polled, each with a trail of its own, so that waiting twice records it once.

        Raises:
            ProviderError: No task of it is known, and its process is gone.
            ConfigurationError: None of its providers is configured here.
        """
        if self._record is None:
            assert self._started is not None
            return [replace(self._started, began_s=0.0, trail=self._started.trail.copy())]
        found = self._askable()
        if not found:
            error = self._core.store.claims.abandoned(self._record)
            self._state = JobState.UNKNOWN if error.maybe_charged else JobState.CANCELLED
            raise error
        self._started = found[0]
        return found

    def _notifier(self) -> Notifier:
        """What tells of a job that was accepted before."""
        notifier = self._options.notifier
        notifier.take_up(self.handle)
        return notifier

    def _let_go(self) -> None:
        """It was polled for as long as it was waited for."""
        if self._taken:
            self._taken = False
            self._core.store.claims.leave(self.id)

    def _too_late(self, deadline_s: float) -> DeadlineExceeded:
        candidate = self._started.accepted.step.candidate if self._started else None
        return DeadlineExceeded(
            f"it has not ended within {deadline_s:g} s, and runs on",
            provider=candidate.provider.name if candidate else self._record.provider or "" if self._record else "",
            model=candidate.model if candidate else self._record.model if self._record else None,
            handle=self.handle,
            job_id=self.id,
            maybe_charged=True,
        )

    def _take(self, outcome: ImageResult | ProviderError) -> ImageResult:
        if isinstance(outcome, ProviderError):
            outcome = self._error = outcome if self._record is None else in_doubt(outcome)
            self._state = STATE_OF_FINAL.get(outcome.kind, self._state)
            if outcome.kind is Kind.OUTCOME_UNKNOWN:
                self._state = JobState.UNKNOWN
            if outcome.kind is Kind.RESULT_EXPIRED:
                self._state = JobState.EXPIRED
            if outcome.kind is Kind.DEADLINE_EXCEEDED:
                self._following = None  # it may still run: the next call polls
            raise outcome
        self._result, self._state = outcome, JobState.SUCCEEDED
        return outcome

    def _seen(self, found: list[JobState | Ended]) -> None:
        states = [STATE_OF_FINAL.get(one.kind) if isinstance(one, Ended) else one for one in found]
        if any(state in {None, JobState.RUNNING} for state in states):
            return
        good = any(state is JobState.SUCCEEDED for state in states)
        self._state = JobState.SUCCEEDED if good else next(state for state in states if state)

    def _cancellable(self) -> None:
        if self._record is not None:
            self._record = self._core.ledger.job(self.id) or self._record
            self._state = self._record.state if is_ended(self._record.state) else self._state
        if self.done:
            raise InvalidRequest(f"{self.id} has ended ({self._state}): there is nothing to cancel")
        candidate = self._candidate
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

    def _cancelled(self, task: Task, outcome: "State | Ended") -> None:
        """Keep what the provider said to a wish to cancel.

        Raises:
            ProviderError: It refused, or did not answer.
        """
        candidate = self._candidate
        said = f"{outcome.kind}: {outcome.message}" if isinstance(outcome, Ended) else type(outcome).__name__.lower()
        detail = f"{candidate.name}, task {task.id}: it said {said}"
        with contextlib.suppress(LedgerError):  # the wish was sent, written down or not
            self._core.ledger.note(self.id, "cancel asked", detail, who=self._core.store.owner).result()
        if isinstance(outcome, Ended):
            raise outcome.error(candidate, self.id, self.handle)

    def __repr__(self) -> str:
        where = f" at {self._started.accepted.step.candidate.name}" if self._started else ""
        return f"<{type(self).__name__} {self.id} {self._state}{where}>"


class Job(_Job):
    """A job, made by `Client.submit`, `resume` or `job`. One that was submitted here is followed by a thread."""

    _driver: "SyncDriver"
    _following: "Running[ImageResult | ProviderError] | None"

    def wait(self, deadline: float | None = None) -> ImageResult:
        """Follow this attempt to its end and fetch its images.

        Args:
            deadline: Seconds from now; None for the config's.

        Raises:
            ProviderError: It gave no image; `DeadlineExceeded` leaves it running, to be waited for again.
        """
        self._check_usable()
        if (known := self._known()) is not None:
            return known
        deadline_s = seconds(deadline, self._options.deadline_s)
        until = time.monotonic() + deadline_s
        if (following := self._following) is not None:
            try:
                done = False
                while not done and (left_s := until - time.monotonic()) > 0:
                    done = following.done.wait(min(LOOK_S, left_s))  # Windows hears Ctrl-C only in between
            except BaseException as wish:  # noqa: BLE001 - whatever a signal handler raises goes on, with the handle
                raise interrupted(wish, None, self.handle) from None
            if not done:
                raise self._too_late(deadline_s)
            return self._take(following.wait())
        while not self._take_up():
            if (left_s := until - time.monotonic()) <= 0:
                raise self._too_late(deadline_s)
            time.sleep(min(LOOK_S, left_s))
            self._check_usable()
            if (known := self._known()) is not None:
                return known
        try:
            watch = self._driver.watch(self.id, max(until - time.monotonic(), 0.01))
            flow = wait_for_all(watch, self._to_poll())
            return self._take(self._driver.run(flow, self._notifier()))
        finally:
            self._let_go()

    def refresh(self) -> "Job":
        """Ask the provider once how it is, and return this job; a question that fails changes nothing."""
        if not self.done and self._tasks:
            self._check_usable()
            watch, candidate = self._driver.watch(self.id, self._options.deadline_s), self._candidate
            self._seen([self._driver.run(look(watch, candidate, task), Notifier()) for task in self._tasks])
        return self

    def cancel(self) -> "Job":
        """Ask the provider to stop; it may end well all the same.

        Raises:
            UnsupportedOption: The provider cannot cancel.
            ProviderError: The provider refused.
        """
        self._check_usable()
        self._cancellable()
        watch, candidate = self._driver.watch(self.id, self._options.deadline_s), self._candidate
        for task in self._tasks:
            self._cancelled(task, self._driver.run(cancel(watch, candidate, task), Notifier()))
        return self


async def to_its_end(action: Callable[[], T]) -> T:
    """Do something in a thread; a cancellation waits until it is done, so that it can be undone."""
    doing = asyncio.ensure_future(asyncio.to_thread(action))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise


class AsyncJob(_Job):
    """A job, made by `AsyncClient.submit`, `resume` or `job`. One that was submitted here is followed by a task."""

    _driver: "AsyncDriver"
    _following: "asyncio.Task[ImageResult | ProviderError] | None"

    async def wait(self, deadline: float | None = None) -> ImageResult:
        """See `Job.wait`."""
        self._check_usable()
        if (known := await asyncio.to_thread(self._known)) is not None:
            return known
        deadline_s = seconds(deadline, self._options.deadline_s)
        until = time.monotonic() + deadline_s
        if (following := self._following) is not None:
            try:
                done, _ = await asyncio.wait({following}, timeout=deadline_s)
            except asyncio.CancelledError as wish:
                raise interrupted(wish, None, self.handle) from None
            if not done:
                raise self._too_late(deadline_s)
            if following.cancelled():
                self._check_usable()
            return self._take(following.result())
        try:
            while not await to_its_end(self._take_up):
                if (left_s := until - time.monotonic()) <= 0:
                    raise self._too_late(deadline_s)
                await asyncio.sleep(min(LOOK_S, left_s))
                self._check_usable()
                if (known := await asyncio.to_thread(self._known)) is not None:
                    return known
            watch = self._driver.watch(self.id, max(until - time.monotonic(), 0.01))
            flow = wait_for_all(watch, await asyncio.to_thread(self._to_poll))
            return self._take(await self._driver.run(flow, self._notifier()))
        finally:
            await asyncio.to_thread(self._let_go)

    async def refresh(self) -> "AsyncJob":
        """See `Job.refresh`."""
        if not self.done:
            self._check_usable()
        if not self.done and (found := await asyncio.to_thread(self._to_ask)) is not None:
            candidate, tasks = found
            watch = self._driver.watch(self.id, self._options.deadline_s)
            flows = [look(watch.fork(), candidate, task) for task in tasks]
            self._seen(list(await asyncio.gather(*(self._driver.run(flow, Notifier()) for flow in flows))))
        return self

    async def cancel(self) -> "AsyncJob":
        """See `Job.cancel`."""
        self._check_usable()
        await asyncio.to_thread(self._cancellable)
        found = await asyncio.to_thread(self._to_ask)
        assert found is not None
        candidate, tasks = found
        watch = self._driver.watch(self.id, self._options.deadline_s)
        for task in tasks:
            outcome = await self._driver.run(cancel(watch, candidate, task), Notifier())
            await asyncio.to_thread(self._cancelled, task, outcome)
        return self
