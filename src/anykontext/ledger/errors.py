"""What can be wrong with a ledger, in words that say what to do. Nothing is sent when it cannot be written."""

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from anykontext.model.errors import BudgetExceeded, ConfigurationError

if TYPE_CHECKING:
    from anykontext.model.money import Cap


class LedgerError(ConfigurationError):
    """The ledger cannot be read or written; what was not recorded must not be sent."""


class OverBudget(BudgetExceeded):
    """What is about to be sent would pass a cap; nothing was recorded.

    Attributes:
        cap: The cap.
        left: What may still be spent under it; never below zero.
    """

    def __init__(self, cap: "Cap", left: Decimal, asked: Decimal | None) -> None:
        what = "the price is unknown" if asked is None else f"{asked} USD more would be spent"
        tag = f" for {cap.tag[0]}={cap.tag[1]}" if cap.tag else ""
        super().__init__(
            f"{what}, and of the {cap.kind} budget of {cap.limit} USD{tag} {left} USD are left (money at risk counts); "
            "raise the budget, wait until it starts anew, or settle what is at risk with `anykontext jobs resolve`"
        )
        self.cap = cap
        self.left = left


# Primary result codes of SQLite: what is wrong, and what to do.
_WORDS = {
    sqlite3.SQLITE_BUSY: ("is locked by another process", "end that process, or try again"),
    sqlite3.SQLITE_LOCKED: ("is locked", "try again"),
    sqlite3.SQLITE_NOTADB: ("is not a database", "move the file away, or give another path as [ledger] url"),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "keep a copy of it and its -wal file, restore a backup or try `sqlite3 FILE .recover`, and check the bills",
    ),
    sqlite3.SQLITE_READONLY: ("is read-only", "make the file and its folder writable, or set ANYKONTEXT_HOME"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "make the folder writable, or set ANYKONTEXT_HOME"),
    sqlite3.SQLITE_PERM: ("may not be opened", "make the file and its folder writable, or set ANYKONTEXT_HOME"),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some space and try again"),
    sqlite3.SQLITE_IOERR: ("could not be read or written", "check the disk"),
}


def explained(path: str, error: Exception) -> LedgerError:
    """The same trouble as a sentence with the path, what is wrong and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    what, advice = _WORDS.get((code or 0) & 0xFF, ("cannot be used", "see the cause"))
    return LedgerError(f"the ledger {path!r} {what} ({error}); {advice}")


def not_openable(path: Path, error: OSError) -> LedgerError:
    """The file or its folder cannot be made or written."""
    return LedgerError(
        f"the ledger {str(path)!r} cannot be opened ({error.strerror or error}), and nothing is sent without it; "
        "make the file and its folder writable, or set ANYKONTEXT_HOME to a folder that is"
    )
