"""The connections to one SQLite database: one that writes, and some that read. Opening says what is wrong, if it is."""

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from anykontext.ledger.errors import LedgerError, explained, not_openable
from anykontext.ledger.schema import VERSION, migrate, version_of

_AGAIN_S = 0.01
_SIDE_FILES = ("", "-wal", "-shm")


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection to a file that exists; transactions are opened and closed by us alone."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
    )


class Store:
    """One database: a file that several processes may share, or, without a path, the memory of this process."""

    def __init__(self, path: Path | None, *, busy_s: float) -> None:
        self.name = "memory" if path is None else str(path)
        self._path = path
        self._busy_s = busy_s
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        # In memory one connection does everything, in turns; a file lets readers pass while one writes.
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.RLock() if path is None else contextlib.nullcontext()
        )
        self._writer = _in_memory() if path is None else _opened(path, busy_s)
        self._file = None if path is None else _identity(path)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes; for the writer's thread alone.

        Raises:
            LedgerError: The file was taken away: what would be written is lost with it (F60).
        """
        with self._turn:
            if self._path is not None and _identity(self._path) != self._file:
                raise LedgerError(
                    f"the ledger {self.name!r} was moved, replaced or deleted while it was open, so nothing more is "
                    "sent; put it back, and start again"
                )
            yield self._writer

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that reads one state of the database, in any thread.

        Raises:
            LedgerError: The ledger cannot be read, or is closed.
        """
        self.check_open()
        with self._turn:
            try:
                db = self._writer if self._path is None else self._reader(self._path)
                try:
                    db.execute("BEGIN")
                    yield db
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    self._give_back(db)
            except sqlite3.Error as error:
                raise explained(self.name, error) from error

    def check_open(self) -> None:
        """Refuse a ledger that is closed, or that was opened before a fork (F66)."""
        if self.forked:
            raise LedgerError(
                f"the ledger {self.name!r} was opened before this process was forked, and SQLite does not survive "
                "that; open a new one after the fork"
            )
        if self._closed:
            raise LedgerError(f"the ledger {self.name!r} is closed; open it again")

    @property
    def forked(self) -> bool:
        """Whether this is a copy of a store in a child process."""
        return os.getpid() != self._pid

    def close(self) -> None:
        """Close every connection; one that is reading is closed when it has read."""
        with self._turn, self._lock:
            if not self._closed:
                self._closed = True
                for db in self._idle:
                    db.close()
                self._writer.close()

    def _reader(self, path: Path) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        db = connect(path, self._busy_s)
        db.execute("PRAGMA query_only = ON")
        return db

    def _give_back(self, db: sqlite3.Connection) -> None:
        if db is self._writer:
            return
        with self._lock:
            if not self._closed:
                self._idle.append(db)
                return
        db.close()


def _in_memory() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(db)
    return db


def _opened(path: Path, busy_s: float) -> sqlite3.Connection:
    """Open a ledger, after making or migrating it; a file that is not ours, or too new, is left as it was."""
    try:
        _make(path)
    except OSError as error:
        raise not_openable(path, error) from error
    until = time.monotonic() + busy_s
    while True:
        db = None
        try:
            db = connect(path, busy_s)
            _prepare(db, path)
            return db
        except BaseException as error:
            if db is not None:
                db.close()
            if not isinstance(error, sqlite3.Error):
                raise
            # The switch to the write-ahead log does not wait by itself where several processes make it at once.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise explained(str(path), error) from error
            time.sleep(_AGAIN_S)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    version = version_of(db)
    if version is None:
        raise LedgerError(f"{str(path)!r} is a database of another program; give another path as [ledger] url")
    if version > VERSION:
        raise LedgerError(
            f"the ledger {str(path)!r} has version {version}, written by a newer release; this one reads up to "
            f"{VERSION}: install the newer release, or give another path as [ledger] url"
        )
    db.execute("PRAGMA journal_mode = WAL")
    # A commit is on disk before a submit leaves: NORMAL would sync at checkpoints only, and a power cut could take
    # away the only trace of something paid.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # a forgotten prompt is overwritten
    if version < VERSION:
        migrate(db)
    _only_ours(path)


def _make(path: Path) -> None:
    """Make sure that the file exists and can be written.

    A file that exists is not opened here: closing it again would drop the locks that SQLite holds on it elsewhere in
    this process.

    Raises:
        OSError: It cannot.
    """
    if path.exists():
        if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "no right to write it, or its folder, or a read-only file system")
        return
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another process was faster
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _only_ours(path: Path) -> None:
    """Let nobody but the user read it, whatever mode it came with."""
    for suffix in _SIDE_FILES:
        file = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & 0o077:
                file.chmod(mode & 0o700)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
