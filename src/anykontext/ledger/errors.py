"""What can be wrong with a ledger, in words that say what to do. Nothing is sent when it cannot be written."""

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from anykontext.model.errors import BudgetExceeded, ConfigurationError
from anykontext.routing.budgets import of_budget

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

    def __init__(self, cap: "Cap", left: Decimal, asked: Decimal | None, *, provider: str, model: str) -> None:
        not_sent = f"{provider}/{model}: it was not sent:"
        self.cap = cap
        self.left = max(left, Decimal(0))
        if cap.at_risk_only:
            what = "an unknown amount" if asked is None else f"{cap.limit - left:f} USD"
            super().__init__(
                f"{not_sent} {what} would be at risk on attempts that were left, and at most {cap.limit:f} USD "
                "may be (max_at_risk_usd); settle what is at risk with `anykontext jobs resolve`, or raise the limit"
            )
            return
        of = of_budget(cap, self.left)
        if asked is None:
            super().__init__(
                f"{not_sent} the price is unknown, so that no budget can hold it, and {of}; give it one, "
                f'as in [providers.{provider}.prices] "{model}" = "0.04"'
            )
            return
        super().__init__(
            f"{not_sent} {asked:f} USD more would be spent, and {of} (money at risk counts); wait until then, "
            "raise the budget, or settle what is at risk with `anykontext jobs resolve`"
        )


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
