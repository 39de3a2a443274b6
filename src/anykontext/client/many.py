"""`run_many`: requests are pulled one by one, and each outcome is given as soon as it is there.

A request has a place from when it is pulled until its outcome is taken, and there are only so many places: whatever
the length of the list, no more pictures are held than these. A request is pulled when a place is free, and not before.
"""

import asyncio
import logging
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
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from anykontext.client.shared import AsyncShared, Shared
from anykontext.io.drive_sync import TICK_S, Running
from anykontext.io.notify import Notifier, OnEvent
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

Ended = Outcome | Exception | None  # what is no outcome is raised when all have ended; None: it was left


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
    return Outcome(index, asked, None, end, end.job_id if isinstance(end, ProviderError) else None)


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
        self._failed: list[Exception] = []

    def outcomes(self) -> Generator[Outcome, None, None]:
        """The outcome of each request, as it ends."""
        try:
            while self._fill():
                end = self._next()
                if isinstance(end, Outcome):
                    yield end
                elif end is None:
                    self._shared.check_usable()
                else:
                    self._fail(end)
                del end  # its request is the caller's alone from here
            if self._failed:
                raise self._failed[0]
        finally:
            self._leave()

    def _fill(self) -> bool:
        """Pull into the free places, but only once while an outcome waits; then whether anything is under way."""
        while self._more and len(self._under_way) < self._count:
            self._pull()
            if not self._ended.empty():
                break
        return bool(self._under_way)

    def _pull(self) -> None:
        try:
            request = next(self._requests, END)
        except Exception as error:  # noqa: BLE001 - raised when those under way have ended
            self._fail(error)
            return
        if request is END:
            self._more = False
            return
        begun = threading.Event()
        running = self._shared.driver.begin(self._flow(self._pulled, request, begun), Notifier(self._on_event))
        self._under_way[self._pulled] = running
        self._pulled += 1
        self._shared.follow(running)
        running.wait(begun)

    def _flow(self, index: int, request: Any, begun: threading.Event) -> "Flow[None]":
        begun.set()
        end: Ended = None
        try:
            end = _outcome(index, request, (yield from self._make(request, lambda: self._attached.add(index))))
        except AnykontextError as error:
            end = _outcome(index, request, error)
        except Exception as error:  # noqa: BLE001 - raised when those beside it have ended
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

    def _fail(self, error: Exception) -> None:
        self._failed.append(error)
        self._more = False

    def _leave(self) -> None:
        """Let the rest end at its next step; a submit in flight is waited for, until Ctrl-C comes again."""
        _warn(len(self._under_way))
        for running in self._under_way.values():
            running.leave()
        try:
            for index, running in self._under_way.items():
                while index not in self._attached and not running.done.wait(TICK_S):
                    pass
        except BaseException:
            for running in self._under_way.values():
                running.leave()
            raise


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
        self._failed: list[Exception] = []

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
            await _cancelled([feeder, *self._under_way])

    async def _feed(self) -> None:
        try:
            while True:
                await self._free.acquire()
                request = await self._pull()
                if request is END:
                    return
                task = asyncio.create_task(self._one(self._pulled, request))
                del request
                self._pulled += 1
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                self._shared.follow(task)
        except Exception as error:  # noqa: BLE001 - raised when those under way have ended
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
        except Exception as error:  # noqa: BLE001 - raised when those beside it have ended
            end = error
        finally:
            self._ended.put_nowait(end)


async def _cancelled(tasks: "Sequence[asyncio.Task[None]]") -> None:
    """Cancel tasks; a submit in flight is waited for, until a cancellation comes again."""
    wish: asyncio.CancelledError | None = None
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as again:
            wish = again
            for task in tasks:
                task.cancel()
    if wish is not None:
        raise wish
