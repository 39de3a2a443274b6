"""The ledger: what was asked, sent, promised and paid. Written before the first byte of a submit leaves.

Tables (`schema.py` has the SQL):

    jobs     one request: its words, its state, who owns it and until when (a lease), how it ended
    tags     the tags of a job, one row each, for filters, sums and budgets
    sends    one submit of one part of an attempt: the money it puts at risk, and what came of it. A submit that is
             repeated is a new row. The view `money` says of each row: `spent`, `risk` or `free`, and how much
    handles  what providers have accepted: rows are only ever added, by whoever has one, however late
    events   who did what, when: rows are only ever added
    tally    how many submits of a day count which amount against budgets, kept by triggers
    balances what providers said is left, to be compared with what was spent
    drains   the providers that take no new jobs, by a person's word

`open_ledger` gives a `Ledger`. Its writes return futures that resolve when the record is durable; its reads block
for a moment. SQLite is the one implementation so far; the contract in the tests is for all of them.
"""

from anykontext.ledger.errors import LedgerError, OverBudget
from anykontext.ledger.protocol import Ledger
from anykontext.ledger.reads import UNREADABLE
from anykontext.ledger.records import (
    FINAL,
    BalanceRecord,
    Begun,
    DrainRecord,
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
    "FINAL",
    "UNREADABLE",
    "BalanceRecord",
    "Begun",
    "Cap",
    "DrainRecord",
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
