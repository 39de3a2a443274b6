"""Flows on the side: carried out beside the job that began them, until they end or the client is closed."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from anykontext.engine.effects import Aside
from anykontext.io.threads import Box, Stop

Hold = Callable[[str], Callable[[], None]]
LEAVE_S = 2.0  # for flows to see that the client is closed, and to write down what they know
TICK_S = 0.1
log = logging.getLogger("anykontext")


def no_hold(_job_id: str) -> Callable[[], None]:
    """Nobody needs to know that a job is followed on the side."""
    return lambda: None


class Asides:
    """The flows on the side of a sync driver, each in a thread of its own.

    Args:
        hold: Called with the id of a job when one begins; what it gives is called when that one has ended.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._lock = threading.Lock()
        self._running: dict[Box[Any], Stop] = {}

    def begin(self, aside: Aside, drive: Callable[[Stop], Any]) -> Box[Any]:
        """Carry one out."""
        stop, ended = Stop(), self._hold(aside.job_id)

        def action() -> Any:
            try:
                return drive(stop)
            finally:
                ended()

        box = Box(action, then=self._forget)
        with self._lock:
            self._running[box] = stop
        return box.start()

    def _forget(self, box: Box[Any]) -> None:
        with self._lock:
            self._running.pop(box, None)

    def close(self) -> None:
        """Let them go: what runs at a provider runs on, and the ledger has its handle."""
        with self._lock:
            running = dict(self._running)
        until = time.monotonic() + LEAVE_S
        for stop in running.values():
            stop.request(KeyboardInterrupt())
        for box in running:
            box.done.wait(max(until - time.monotonic(), 0.0))


def first_ended(boxes: Sequence[Box[Any]], within_s: float, wished: Callable[[], bool]) -> tuple[int, Any] | None:
    """The place and the result of the first that has ended; None when none has in time, or the caller stopped."""
    until = time.monotonic() + within_s
    while True:
        for index, box in enumerate(boxes):
            if box.done.is_set():
                return index, box.value
        left_s = until - time.monotonic()
        if left_s <= 0 or wished():
            return None
        boxes[0].done.wait(min(TICK_S, left_s))


class AsyncAsides:
    """The flows on the side of an async driver, each in a task of its own; see `Asides`."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._running: dict[asyncio.Task[Any], Callable[[], None]] = {}

    def begin(self, aside: Aside, flow: Coroutine[Any, Any, Any], leave: Callable[[], None]) -> "asyncio.Task[Any]":
        """Carry one out; `leave` asks it to end at its next step."""
        task = asyncio.create_task(self._until_ended(flow, self._hold(aside.job_id)))
        self._running[task] = leave
        task.add_done_callback(self._running.pop)
        return task

    async def _until_ended(self, flow: Coroutine[Any, Any, Any], ended: Callable[[], None]) -> Any:
        try:
            return await flow
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it was stopped, or it is logged
            log.debug("a flow on the side was let go: %r", error)
            return None
        finally:
            await asyncio.to_thread(ended)  # it writes into the ledger

    async def close(self) -> None:
        """Let them go: what runs at a provider runs on, and the ledger has its handle."""
        running: Mapping[asyncio.Task[Any], Callable[[], None]] = dict(self._running)
        for leave in running.values():
            leave()
        if running:
            _, late = await asyncio.wait(running, timeout=LEAVE_S)
            for task in late:
                task.cancel()


def ended_among(tasks: "Sequence[asyncio.Task[Any]]") -> tuple[int, Any] | None:
    """The place and the result of the first that has ended; None when none has."""
    for index, task in enumerate(tasks):
        if task.done():
            return index, None if task.cancelled() or task.exception() is not None else task.result()
    return None
