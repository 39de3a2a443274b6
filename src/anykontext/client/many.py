"""`run_many`: requests are pulled one by one, and each outcome is given as soon as it is there.

A request has a place from when it is pulled until its outcome is taken, and there are only so many places: whatever
the length of the list, no more pictures are held than these. A request is pulled when a place is free, and not before.
"""

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from anykontext.client.shared import AsyncShared, Shared
from anykontext.io.drive_sync import Running
from anykontext.io.notify import Notifier, OnEvent
from anykontext.io.stopping import TICK_S, left
from anykontext.model.errors import AnykontextError, InvalidRequest, ProviderError
from anykontext.model.outcome import Outcome
from anykontext.model.request import ImageRequest
from anykontext.model.result import ImageResult

if TYPE_CHECKING:
    from anykontext.engine.effects import Flow

MOST = 100  # by default: half of the connections that are kept, since a request may poll and download at once
UNSAID = 10  # by default, at a provider that tells no limit
END = object()  # of an iterable, or of pulling from it
log = logging.getLogger("anykontext")
_collector = threading.local()

Ended = Outcome | BaseException | None  # what is no outcome is raised when all have ended; None: it was left


def _note_collection(phase: str, _info: object, here: threading.local = _collector) -> None:
    here.works = phase == "start"


gc.callbacks.append(_note_collection)


def places(concurrency: Any, caps: Iterable[int | None]) -> int:
    """How many requests are under way at once: what the caller says, else as many as the providers run.

    Raises:
        InvalidRequest: It is no whole number from 1.
    """
    if concurrency is None:
        return min(MOST, sum(UNSAID if cap is None else cap for cap in caps))
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequest(f"concurrency is a whole number from 1, not {concurrency!r}")
    return concurrency


def iterated(requests: Any) -> Iterator[Any]:
    """An iterator over requests.

    Raises:
        InvalidRequest: It is no iterable; a single request is none, too.
    """
    if isinstance(requests, Iterable) and not isinstance(requests, ImageRequest | str | bytes):
        return iter(requests)
    more = "; AsyncClient.run_many takes async ones, too" if isinstance(requests, AsyncIterable) else ""
    raise InvalidRequest(f"run_many takes an iterable of ImageRequests, not {type(requests).__name__}{more}")


def _outcome(index: int, request: Any, end: ImageResult | AnykontextError) -> Outcome:
    asked = request if isinstance(request, ImageRequest) else None
    if isinstance(end, ImageResult):
        return Outcome(index, asked, end, None, end.job_id)
    return Outcome(index, asked, None, end, end.job_id)


def _warn(count: int) -> None:
    if count:
        log.warning(
            "run_many was left with %d requests whose outcome was not taken: `anykontext jobs list` shows them, "
            "and `jobs collect` or recover() fetches what was accepted",
            count,
        )


class Threads:
    """Requests that run in a thread each.

    Args:
        make: From a request to its flow. It calls what it is given when it waits for a job that others work on.
        shared: Of the client.
        requests: They are pulled in the thread of whoever takes the outcomes.
        count: How many places there are.
        on_event: Of the call.
    """

    def __init__(
        self,
        make: "Callable[[Any, Callable[[], None]], Flow[ImageResult | ProviderError]]",
        shared: Shared,
        requests: Iterator[Any],
        count: int,
        on_event: OnEvent | None,
    ) -> None:
        self._make = make
        self._shared = shared
        self._requests = requests
        self._count = count
        self._on_event = on_event
        self._pulled = 0
        self._more = True
        self._under_way: dict[int, Running[None]] = {}
        self._attached: set[int] = set()
        self._ended: SimpleQueue[tuple[int, Ended]] = SimpleQueue()
        self._failed: list[BaseException] = []

    def take(self) -> Outcome | None:
        """The next outcome; None when there are no more."""
        while self._fill():
            end = self._next()
            if isinstance(end, Outcome):
                return end
            if end is not None:
                self._fail(end)
        if self._failed:
            raise self._failed[0]
        return None

    def _fill(self) -> bool:
        """Pull into the free places, but only once while an outcome waits; then whether anything is under way."""
        while self._more and len(self._under_way) < self._count:
            self._pull()
            if not self._ended.empty():
                break
        return bool(self._under_way)

    def _pull(self) -> None:
        try:
            self._shared.check_usable()
            request = next(self._requests, END)
        except Exception as error:  # noqa: BLE001 - raised when those under way have ended
            self._fail(error)
            return
        if request is END:
            self._more = False
            return
        begun, notifier = threading.Event(), Notifier(self._on_event)
        running = self._shared.driver.begin(self._flow(self._pulled, request, begun, notifier), notifier)
        self._under_way[self._pulled] = running
        self._pulled += 1
        running.wait(begun)

    def _flow(self, index: int, request: Any, begun: threading.Event, notifier: Notifier) -> "Flow[None]":
        begun.set()
        end: Ended = None
        try:
            end = _outcome(index, request, (yield from self._make(request, lambda: self._attached.add(index))))
        except GeneratorExit:  # the driver stopped it, since the client is closed
            end = _outcome(index, request, left(notifier))
            raise
        except AnykontextError as error:
            end = _outcome(index, request, error)
        except BaseException as error:  # noqa: BLE001 - raised when those beside it have ended
            end = error
        finally:
            self._ended.put((index, end))

    def _next(self) -> Ended:
        while True:
            try:
                index, end = self._ended.get(timeout=TICK_S)  # Windows hears Ctrl-C only in between
            except Empty:
                continue
            del self._under_way[index]
            return end

    def _fail(self, error: BaseException) -> None:
        self._failed.append(error)
        self._more = False

    def forsake(self) -> None:
        """Let the rest end at its next step, by a mark alone: nothing is locked here, and nothing waited for."""
        for running in [*self._under_way.values()]:
            running.forsake()

    def leave(self) -> None:
        """Let the rest end at its next step; a submit in flight is waited for, until Ctrl-C comes again."""
        _warn(len(self._under_way))
        for running in self._under_way.values():
            running.leave()
        try:
            for index, running in self._under_way.items():
                while not (index in self._attached or running.is_late or running.done.wait(TICK_S)):
                    pass
        except BaseException:
            for running in self._under_way.values():
                running.let_go()
            raise


class Outcomes(Generator[Outcome, None, None]):
    """The outcomes of `Threads`, to be iterated over; to close or to drop it stops the rest.

    It is written out, since a generator that the garbage collector finds is ended in any thread and in the middle of
    anything: there this takes no lock and waits for nothing.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._turn = threading.Lock()
        self._over = False

    def send(self, _value: None) -> Outcome:
        """The next outcome."""
        with self._alone():
            if self._over:
                raise StopIteration
            try:
                found = self._threads.take()
            except BaseException:
                self._end()
                raise
            if found is None:
                self._end()
                raise StopIteration
            return found

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Outcome:
        """Stop the rest, and raise what is given."""
        self.close()
        return super().throw(kind, value, traceback)

    def close(self) -> None:
        """Stop the rest; submits in flight are waited for."""
        with self._alone():
            self._end()

    def __del__(self) -> None:
        if getattr(_collector, "works", False) or sys.is_finalizing():
            if not self._over:
                self._threads.forsake()
        else:
            self._end()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise ValueError("run_many is asked for an outcome already; one thread at a time goes over it")
        try:
            yield
        finally:
            self._turn.release()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._threads.leave()


class Tasks:
    """Requests that run in a task each; another task pulls them.

    Args:
        run: Runs a request.
        shared: Of the client.
        requests: They are pulled on the event loop.
        count: How many places there are.
    """

    def __init__(
        self,
        run: Callable[[Any], Awaitable[ImageResult]],
        shared: AsyncShared,
        requests: "Iterator[Any] | AsyncIterator[Any]",
        count: int,
    ) -> None:
        self._run = run
        self._shared = shared
        self._requests = requests
        self._free = asyncio.Semaphore(count)
        self._pulled = 0
        self._given = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[Any] = asyncio.Queue()  # of `Ended`, and END when nothing more is pulled
        self._failed: list[BaseException] = []

    async def outcomes(self) -> AsyncGenerator[Outcome, None]:
        """The outcome of each request, as it ends."""
        await self._shared.ready()
        feeder = asyncio.create_task(self._feed())
        self._shared.follow(feeder)
        try:
            while self._given < self._pulled or not feeder.done():
                end = await self._ended.get()
                if end is END:
                    continue
                self._given += 1
                if isinstance(end, Outcome):
                    yield end
                elif end is None:
                    self._shared.check_usable()
                else:
                    self._failed.append(end)
                    feeder.cancel()
                del end  # its request is the caller's alone from here
                self._free.release()
            if self._failed:
                raise self._failed[0]
            if feeder.cancelled():  # the client was closed between two requests
                self._shared.check_usable()
        finally:
            _warn(self._pulled - self._given)
            feeder.cancel()
            if not self._shared.is_closed:  # else they are stopped already: twice would let their submits go
                _cancel(self._under_way)
            await _all_ended([feeder, *self._under_way])

    async def _feed(self) -> None:
        try:
            while True:
                await self._free.acquire()
                self._shared.check_usable()
                request = await self._pull()
                if request is END:
                    return
                task = asyncio.create_task(self._one(self._pulled, request))
                del request
                self._pulled += 1
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                self._shared.follow(task)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._failed.append(error)
        except BaseException as error:  # noqa: BLE001 - raised when those under way have ended
            self._failed.append(error)
        finally:
            self._ended.put_nowait(END)

    async def _pull(self) -> Any:
        if isinstance(self._requests, AsyncIterator):
            return await anext(self._requests, END)
        return next(self._requests, END)

    async def _one(self, index: int, request: Any) -> None:
        end: Ended = None
        try:
            end = _outcome(index, request, await self._run(request))
        except AnykontextError as error:
            end = _outcome(index, request, error)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            end = error
        except BaseException as error:  # noqa: BLE001 - raised when those beside it have ended
            end = error
        finally:
            self._ended.put_nowait(end)


def _is_cancelled() -> bool:
    """Whether somebody cancels this task; else a stranger's code has raised the error by itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cancel(tasks: "Iterable[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()


async def _all_ended(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Wait for tasks that are asked to stop, with their submits in flight, until a cancellation comes again."""
    wish: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as again:
            wish = again
            _cancel(tasks)
    if wish is not None:
        raise wish
