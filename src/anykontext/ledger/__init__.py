"""The ledger: what was asked, sent, promised and paid. Written before the first byte of a submit leaves.

Tables (`schema.py` has the SQL):

    jobs     one request: its words, its state, who owns it and until when (a lease), how it ended
    tags     the tags of a job, one row each, for filters, sums and budgets
    sends    one submit of one part of an attempt: the money it puts at risk, and what came of it. A submit that is
             repeated is a new row. The view `money` says of each row: `spent`, `risk` or `free`, and how much
    handles  what providers have accepted: rows are only ever added, by whoever has one, however late
    events   who did what, when: rows are only ever added

`open_ledger` gives a `Ledger`. Its writes return futures that resolve when the record is durable; its reads block
for a moment. SQLite is the one implementation so far; the contract in the tests is for all of them.
"""

from anykontext.ledger.errors import LedgerError, OverBudget
from anykontext.ledger.protocol import Ledger
from anykontext.ledger.records import (
    Begun,
    EventRecord,
    Existing,
    Finish,
    HandleRecord,
    JobRecord,
    New,
    NewJob,
    NewSend,
    SendRecord,
    SpendRow,
    is_ended,
)
from anykontext.ledger.sqlite import SqliteLedger, open_ledger
from anykontext.ledger.told import told_error, told_result
from anykontext.model.money import Cap

__all__ = [
    "Begun",
    "Cap",
    "EventRecord",
    "Existing",
    "Finish",
    "HandleRecord",
    "JobRecord",
    "Ledger",
    "LedgerError",
    "New",
    "NewJob",
    "NewSend",
    "OverBudget",
    "SendRecord",
    "SpendRow",
    "SqliteLedger",
    "is_ended",
    "open_ledger",
    "told_error",
    "told_result",
]
