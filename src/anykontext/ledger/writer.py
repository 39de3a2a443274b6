"""One thread that writes, so that nobody else waits for the disk, with group commit.

While one transaction is being synced, whatever is asked meanwhile queues up and goes together into the next one: at
500 jobs in flight a hundred records share a sync. A future resolves when its record is on disk.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from anykontext.ledger.errors import LedgerError, explained
from anykontext.ledger.store import Store
from anykontext.model.errors import AnykontextError

T = TypeVar("T")
TOGETHER = 128  # records in one transaction at most; more would wake so many waiters at once that a loop feels it
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@dataclass(frozen=True, slots=True)
class _Work:
    rule: Callable[[sqlite3.Connection], Any]
    future: "Future[Any]"
    sweep: bool


class Writer:
    """The thread. A rule is a function of the connection; it raises its own errors before it writes anything."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        # A daemon, so that a ledger that nobody closed does not keep the interpreter alive; `close` runs at exit.
        self._thread = threading.Thread(target=self._run, name="anykontext-ledger", daemon=True)
        self._thread.start()

    def write(self, rule: Callable[[sqlite3.Connection], T], *, sweep: bool = False) -> "Future[T]":
        """Queue a rule. The future cannot be cancelled: what was asked to be recorded is recorded.

        `sweep` empties the write-ahead log afterwards, so that what the rule deleted is nowhere any more.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            self._store.check_open()  # first: after a fork even the lock may be held by a thread that is not here
            with self._lock:
                if not self._closed:
                    self._queue.put(_Work(rule, future, sweep))
                    return future
            raise LedgerError(f"the ledger {self._store.name!r} is closed; open it again")
        except LedgerError as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Write what is queued, and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            works: list[_Work | None] = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(works) < TOGETHER and works[-1] is not None:
                    works.append(self._queue.get_nowait())
            self._write([work for work in works if work is not None])
            if works[-1] is None:
                return
            del works  # a future keeps its waiters alive

    def _write(self, works: list[_Work]) -> None:
        try:
            with self._store.writing() as db:
                with transaction(db):
                    outcomes = [_outcome(work, db) for work in works]
                if any(work.sweep for work in works):
                    with contextlib.suppress(sqlite3.Error):  # the deletion stands; a later checkpoint sweeps
                        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except Exception as error:  # noqa: BLE001  # the thread goes on, whatever a rule or the disk does
            if len(works) > 1 and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
                for work in works:  # the fault of one of them, perhaps: each for itself
                    self._write([work])
                return
            if isinstance(error, sqlite3.Error):
                error = _from(explained(self._store.name, error), error)
            outcomes = [error] * len(works)
        for work, outcome in zip(works, outcomes, strict=True):
            if isinstance(outcome, Exception):
                work.future.set_exception(outcome)
            else:
                work.future.set_result(outcome)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. The lock is taken at once, so that what a rule reads is still so when it writes."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk may have rolled it back already
            db.execute("ROLLBACK")
        raise


def _outcome(work: _Work, db: sqlite3.Connection) -> Any:
    try:
        return work.rule(db)
    except AnykontextError as error:
        return error


def _from(error: LedgerError, cause: Exception) -> LedgerError:
    error.__cause__ = cause
    return error
