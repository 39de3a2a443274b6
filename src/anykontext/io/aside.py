"""Flows on the side: carried out beside the job that began them, until they end or the client is closed.

Then they are let go: what runs at a provider runs on, and the ledger has its handle.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anykontext.engine.effects import Aside
from anykontext.io.stopping import TICK_S, Flows, Stop
from anykontext.io.threads import Box

Hold = Callable[[str], Callable[[], None]]
log = logging.getLogger("anykontext")


def no_hold(_job_id: str) -> Callable[[], None]:
    """Nobody needs to know that a job is followed on the side."""
    return lambda: None


class Asides:
    """The flows on the side of a sync driver, each in a thread of its own.

    Args:
        hold: Called with the id of a job when one begins; what it gives is called when that one has ended.
        flows: Of the driver, of which they are some.
    """

    def __init__(self, hold: Hold, flows: Flows[threading.Event]) -> None:
        self._hold = hold
        self._flows = flows

    def begin(self, aside: Aside, drive: Callable[[Stop[threading.Event]], Any]) -> Box[Any]:
        """Carry one out."""
        stop, ended = Stop(threading.Event), self._hold(aside.job_id)

        def action() -> Any:
            with self._flows.carried_out(stop):
                try:
                    return drive(stop)
                finally:
                    ended()

        return Box(action).start()


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

    def __init__(self, hold: Hold, flows: Flows[asyncio.Event]) -> None:
        self._hold = hold
        self._flows = flows
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, aside: Aside, drive: Callable[[Stop[asyncio.Event]], Awaitable[Any]]) -> "asyncio.Task[Any]":
        """Carry one out."""
        task = asyncio.create_task(self._until_ended(drive, self._hold(aside.job_id)))
        self._running.add(task)  # the loop itself would forget it
        task.add_done_callback(self._running.discard)
        return task

    async def _until_ended(
        self, drive: Callable[[Stop[asyncio.Event]], Awaitable[Any]], ended: Callable[[], None]
    ) -> Any:
        stop = Stop(asyncio.Event)
        with self._flows.carried_out(stop):
            try:
                return await drive(stop)
            except Exception as error:  # noqa: BLE001 - nobody waits for it; it was stopped, or it is logged
                log.debug("a flow on the side was let go: %r", error)
                return None
            finally:
                await asyncio.to_thread(ended)  # it writes into the ledger


def ended_among(tasks: "Sequence[asyncio.Task[Any]]") -> tuple[int, Any] | None:
    """The place and the result of the first that has ended; None when none has."""
    for index, task in enumerate(tasks):
        if task.done():
            return index, None if task.cancelled() or task.exception() is not None else task.result()
    return None
