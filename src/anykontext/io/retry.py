"""Repeats within a driver: an exchange that costs nothing and was lost on the way is made again at once.

stamina makes the repeats; whether and when is decided here, by its backoff hook. A submit never comes here: the engine
alone sends one again, with a new row in the ledger. What was answered, with a 503 or a `Retry-After` too, is the
engine's as well, and so is every loss that two quick repeats did not mend: its rhythm is slower, and it tells the
caller.

stamina sleeps by itself, and in a thread nothing can wake it. In the async driver it sleeps in a task that a wish to
stop cancels. In the sync driver it sleeps in the thread of the exchange, which nobody waits for after a wish to stop;
after its sleep, half a second at most, that thread sends nothing and ends.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import stamina
from stamina.instrumentation import RetryDetails, get_on_retry_hooks, set_on_retry_hooks
from stamina.typing import RetryHook

from anykontext.adapting import Purpose
from anykontext.engine.effects import Heard, Loss, Lost, Send

log = logging.getLogger("anykontext")

REPEATABLE = frozenset({Purpose.UPLOAD, Purpose.POLL, Purpose.FETCH, Purpose.CHECK, Purpose.CANCEL})
PASSING = frozenset({Loss.NOT_CONNECTED, Loss.NO_CONNECTION_FREE, Loss.AFTER_SENDING})
REPEATS = 2
WAIT_S, WAIT_MAX_S = 0.1, 0.5
TOKENS = 10.0  # quick repeats that a provider in trouble gets in a row, of all jobs of a client
REFILL = 0.1  # what an answer gives back, so that at most one exchange in ten is a repeat in the long run


class Again(Exception):  # it goes to stamina and back, and is never seen by a caller
    """An exchange was lost in a way that a repeat may mend."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(lost.message)
        self.lost = lost


class Budget:
    """How many quick repeats are left for one provider: an outage uses them up, and answers bring them back."""

    def __init__(self, tokens: float = TOKENS, refill: float = REFILL) -> None:
        self._full = self._tokens = tokens
        self._refill = refill
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there is one, which is then used up."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def answered(self) -> None:
        """An exchange was answered."""
        with self._lock:
            self._tokens = min(self._full, self._tokens + self._refill)


class Budgets:
    """The budgets of a driver, one for each provider."""

    def __init__(self) -> None:
        self._of: defaultdict[str, Budget] = defaultdict(Budget)
        self._lock = threading.Lock()

    def of(self, send: Send) -> Budget:
        """The budget of the provider that this goes to."""
        with self._lock:
            return self._of[send.provider.name]


def mendable(send: Send, heard: Heard) -> bool:
    """Whether an exchange may be made again here: it costs nothing, and was lost in a way that may pass."""
    return send.call.purpose in REPEATABLE and isinstance(heard, Lost) and heard.loss in PASSING


def wait_after(repeat: int, jitter: float) -> float:
    """Seconds before a repeat, the first of which is 1: doubling, with jitter, at most half a second."""
    return min(WAIT_S * 2.0 ** (repeat - 1) * (1.0 + jitter), WAIT_MAX_S)


class _Turns:
    """One exchange and its repeats: what stamina asks, and what it is told."""

    def __init__(self, send: Send, budget: Budget, jitter: Callable[[], float], stopped: Callable[[], bool]) -> None:
        if send.call.purpose not in REPEATABLE:
            raise AssertionError(f"a {send.call.purpose} is sent once")  # holds under -O, too
        self._send = send
        self._until = time.monotonic() + send.within_s
        self._budget = budget
        self._jitter = jitter
        self._stopped = stopped
        self._repeats = 0
        self._lost: Lost | None = None

    def next(self) -> Send:
        """What is sent now: the same, within the time that is left.

        Raises:
            Again: The caller wished to stop during the wait; nothing is sent any more.
        """
        if self._lost is None:
            return self._send
        if self._stopped():
            raise Again(self._lost)
        return replace(self._send, within_s=max(self._until - time.monotonic(), 0.001))

    def heard(self, heard: Heard) -> Heard:
        """What came of it.

        Raises:
            Again: It was lost in a way that a repeat may mend.
        """
        if not isinstance(heard, Lost):
            self._budget.answered()
        if isinstance(heard, Lost) and mendable(self._send, heard):
            self._lost = heard
            raise Again(heard)
        return heard

    def after(self, error: Exception) -> float | bool:
        """The backoff hook of stamina: seconds before the next repeat, or False when there is none."""
        wait_s = wait_after(self._repeats + 1, self._jitter())
        if not isinstance(error, Again) or self._repeats >= REPEATS or self._stopped():
            return False
        if wait_s >= self._until - time.monotonic() or not self._budget.take():
            return False
        self._repeats += 1
        _keep_quiet()
        log.debug(
            "repeat %d of a %s at %s: %s", self._repeats, self._send.call.purpose, self._send.provider.name, error
        )
        return wait_s


def repeated(
    send: Send,
    exchange: Callable[[Send], Heard],
    budget: Budget,
    jitter: Callable[[], float],
    stopped: Callable[[], bool],
) -> Heard:
    """Make an exchange that costs nothing, and make it again when it was lost, within its `within_s`.

    Args:
        send: What is sent; never a submit.
        exchange: Makes one exchange.
        budget: Of its provider.
        jitter: Gives random fractions of 0 to 1.
        stopped: Whether the caller wished to stop.
    """
    turns = _Turns(send, budget, jitter, stopped)
    try:
        for attempt in stamina.retry_context(turns.after, attempts=1 + REPEATS, timeout=None):
            with attempt:
                return turns.heard(exchange(turns.next()))
    except Again as end:
        return end.lost
    raise AssertionError("stamina ended without an attempt")


async def arepeated(
    send: Send, exchange: Callable[[Send], Awaitable[Heard]], budget: Budget, jitter: Callable[[], float]
) -> Heard:
    """The same on an event loop, where a wish to stop cancels the task that this runs in."""
    turns = _Turns(send, budget, jitter, lambda: False)
    try:
        async for attempt in stamina.retry_context(turns.after, attempts=1 + REPEATS, timeout=None):
            with attempt:
                return turns.heard(await exchange(turns.next()))
    except Again as end:
        return end.lost
    raise AssertionError("stamina ended without an attempt")


class _Theirs:
    """A hook of stamina's, for the repeats of others."""

    def __init__(self, hook: RetryHook) -> None:
        self.hook = hook

    def __call__(self, details: RetryDetails) -> AbstractContextManager[None] | None:
        return None if isinstance(details.caused_by, Again) else self.hook(details)


_quieting = threading.Lock()


def _keep_quiet() -> None:
    """Keep our repeats from stamina's hooks. They are one set for the whole process, and by default log a warning, on
    stdout where structlog is installed; the program's own repeats are told to them as before.
    """
    with _quieting:
        hooks = get_on_retry_hooks()
        if not all(isinstance(hook, _Theirs) for hook in hooks):
            set_on_retry_hooks([hook if isinstance(hook, _Theirs) else _Theirs(hook) for hook in hooks])
