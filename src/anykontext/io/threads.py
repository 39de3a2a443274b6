"""Threads of the sync driver: one with a result, and a crew for several flows."""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Generic, Self, TypeVar

T = TypeVar("T")
CREW = 32  # threads at most, for the tasks of one job


class Box(Generic[T]):
    """A daemon thread with a result: one that hangs in a socket does not keep the program from ending.

    It has the caller's context, so that log records and traces of it know to whom they belong.
    """

    def __init__(self, action: Callable[[], T], then: "Callable[[Box[T]], None] | None" = None) -> None:
        self._then = then
        self.done = threading.Event()
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._action = action
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="anykontext", daemon=True)

    @property
    def started(self) -> bool:
        """Whether the thread runs, or has run."""
        return self._thread.ident is not None or self.done.is_set()

    def start(self) -> Self:
        """Start the thread, unless it was started; where there are no more threads, do it here."""
        if not self.started:
            try:
                self._thread.start()
            except RuntimeError:
                self._run()
        return self

    def _run(self) -> None:
        try:
            self._values.append(self._action())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._error = error
        finally:
            self.done.set()
            if self._then is not None:
                self._then(self)

    @property
    def value(self) -> T | None:
        """What the action gave; None while it runs, and when it raised."""
        return self._values[0] if self._values else None

    def result(self) -> T:
        """What the action gave, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._values[0]


def side_by_side(actions: Sequence[Callable[[], T]]) -> list[T]:
    """Do things at the same time, at most `CREW` of them, and give their results in order when all have ended.

    What one of them raises is raised only then.
    """
    results: list[list[T]] = [[] for _ in actions]
    errors: list[BaseException] = []
    left = iter(zip(actions, results, strict=True))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                action, place = next(left, (None, None))
            if action is None or place is None:
                return
            try:
                place.append(action())
            except BaseException as error:  # noqa: BLE001 - raised when all have ended
                errors.append(error)

    for worker in [Box(work).start() for _ in range(min(CREW, len(actions)))]:
        worker.done.wait()
    if errors:
        raise errors[0]
    return [place[0] for place in results]
