"""The wish to stop a flow, and the end of all flows of a client that is closed.

A flow that is asked to stop ends at its next question or wait. What must not be lost is held until then: a submit in
flight, an image that can be fetched only once, and what is being written into the ledger.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from anykontext.io.exchange import interrupted
from anykontext.io.notify import Notifier
from anykontext.model.errors import AnykontextError, Cancelled, DeadlineExceeded, OutcomeUnknown

E = TypeVar("E", threading.Event, asyncio.Event)
AGAIN_S = 0.25  # between two tries to fetch an image after a wish to stop, which ends every pause of a flow
LEAVE_S = 2.0  # for a flow that holds nothing to see that it is to stop; one that hangs in a stranger's code is left
TICK_S = 0.1  # how soon a thread that waits sees that the caller wants to stop
_inside: ContextVar[Any] = ContextVar("the flows within which this is done", default=None)


class Stopped(Exception):  # it ends a flow of ours, and is never seen by a caller
    """A flow was left because the caller asked to stop."""


class Closed(BaseException):
    """The wish of somebody who closes the client, or leaves an iteration; it is never raised."""


class Stop(Generic[E]):
    """The wish to stop one flow, seen by all of its threads or tasks."""

    def __init__(self, event: Callable[[], E]) -> None:
        self.wish: BaseException | None = None
        self.wished: E = event()
        self.let_go: E = event()  # what is held is not waited for any more
        self.is_forsaken = False  # the same as a wish, said where nothing may be locked
        self._lock = threading.RLock()  # a signal handler may come in between
        self._at = self._replied_at = self._freed_at = 0.0
        self._grace_s = math.inf
        self._holds = 0

    def request(self, wish: BaseException) -> None:
        """Ask to stop; asked twice, what is held is let go."""
        with self._lock:
            if self.wish is not None:
                self.let_go.set()
            if self.wish is None or isinstance(self.wish, Closed):
                self.wish = wish
            self._at = self._at or time.monotonic()
            self.wished.set()

    def leave(self) -> None:
        """Ask to stop, unless somebody has; asked twice, it changes nothing."""
        with self._lock:
            if self.wish is None:
                self.request(Closed())

    def heed(self) -> None:
        """Stop a flow that is forsaken."""
        if self.is_forsaken:
            self.leave()

    @property
    def submit_until(self) -> float:
        """Until when a submit in flight is waited for, on the monotonic clock; without end while nobody wishes."""
        return math.inf if self.wish is None else self._at + self._grace_s

    @property
    def image_until(self) -> float:
        """The same for an image: it has as long from the last reply to a submit as that had."""
        return math.inf if self.wish is None else max(self._at, self._replied_at) + self._grace_s

    @contextmanager
    def holding(self, submit_grace_s: float | None = None) -> Iterator[None]:
        """In this block the flow is waited for, although it is asked to stop.

        `submit_grace_s` is said by a submit: how long it is waited for from the wish on, in seconds.
        """
        with self._lock:
            self._holds += 1
            if submit_grace_s is not None:
                self._grace_s = submit_grace_s
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                self._freed_at = time.monotonic()
                if submit_grace_s is not None:
                    self._replied_at = self._freed_at

    @property
    def is_late(self) -> bool:
        """Whether the flow was asked to stop, holds nothing, and had its time to end."""
        with self._lock:
            asked = self.wish is not None and not self._holds
            return asked and time.monotonic() > max(self._at, self._freed_at) + LEAVE_S


class Flows(Generic[E]):
    """The flows of one driver that are being carried out, on the side too."""

    def __init__(self, event: Callable[[], E]) -> None:
        self.changed: E = event()  # one of them has ended
        self._lock = threading.RLock()
        self._running: set[Stop[E]] = set()
        self._closing = False

    @contextmanager
    def carried_out(self, stop: Stop[E]) -> Iterator[None]:
        """In this block one is carried out; it is asked to stop from the start when the client is closed."""
        with self._lock:
            self._running.add(stop)
            if self._closing:
                stop.leave()
        token = _inside.set(self)
        try:
            yield
        finally:
            _inside.reset(token)
            with self._lock:
                self._running.discard(stop)
                self.changed.set()

    @property
    def around(self) -> bool:
        """Whether this is asked within one of them, by the caller's own code."""
        return _inside.get() is self

    def leave(self) -> None:
        """Ask all to stop, those too that are yet to begin."""
        with self._lock:
            self._closing = True
            for stop in self._running:
                stop.leave()

    def let_go(self) -> None:
        """Wait no more for what they hold."""
        with self._lock:
            for stop in self._running:
                stop.leave()
                stop.let_go.set()

    @property
    def busy(self) -> bool:
        """Whether one of them is to be waited for; `changed` tells when to look again."""
        with self._lock:
            self.changed.clear()
            return any(not stop.is_late for stop in self._running)


def stopped(wish: BaseException, notifier: Notifier) -> BaseException:
    """What the caller of a flow is told that was stopped before its end."""
    return left(notifier) if isinstance(wish, Closed) else interrupted(wish, None, notifier.handle)


def left(notifier: Notifier) -> AnykontextError:
    """The error of a job whose client was closed while it was under way."""
    handle, provider = notifier.handle, notifier.provider or ""
    if not provider:
        error = AnykontextError("the client was closed before anything was submitted")
        error.job_id = notifier.job_id
        return error
    fields: dict[str, Any] = {"provider": provider, "model": notifier.model, "job_id": notifier.job_id}
    if handle is not None and notifier.maybe_charged:
        fields |= {"provider": handle.provider, "model": handle.model, "job_id": handle.job_id, "handle": handle}
        return DeadlineExceeded("the client was closed while it ran, and it runs on", maybe_charged=True, **fields)
    if notifier.maybe_charged:
        return OutcomeUnknown("the client was closed before its image was here", maybe_charged=True, **fields)
    return Cancelled("the client was closed before anything was accepted", maybe_charged=False, **fields)
