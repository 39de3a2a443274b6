"""What may be written, and when: each rule runs inside one transaction of the writer.

Owners and versions guard states. They never guard facts: an outcome, a handle or a success is recorded whoever brings
it (`outcomes.py`). Only `intents`, which comes before money is spent, can say no.
"""

import json
from collections.abc import Sequence
from decimal import Decimal

from anykontext.ledger.counting import counted
from anykontext.ledger.errors import OverBudget
from anykontext.ledger.protocol import LEASE_S
from anykontext.ledger.reads import DUE_TASK, OPEN_TASK, read_job
from anykontext.ledger.records import Begun, Existing, JobRecord, New, NewJob, NewSend, is_ended
from anykontext.ledger.told import amount
from anykontext.ledger.tx import Tx
from anykontext.model.job import JobState
from anykontext.model.money import Cap
from anykontext.model.spend import EXACT
from anykontext.routing.budgets import current

_OPEN = ("queued", "running")
_INSERT_JOB = """INSERT INTO jobs (job_id, request_digest, prompt, prompt_sha256, model, mode, tags, tenant,
    idempotency_key, created_at, updated_at, deadline_at, state, version, owner, submitter, lease_until)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', 1, ?, ?, ?)"""
_INSERT_SEND = """INSERT INTO sends (job_id, attempt, part, send, provider, model, price, listed, owner, intent_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_REPORTED = """SELECT cost FROM sends WHERE provider = ? AND model = ? AND listed = ? AND basis = 'reported'
    ORDER BY intent_at DESC, rowid DESC LIMIT 1"""
_RENEW = "UPDATE jobs SET lease_until = :until WHERE owner = :owner AND state IN ('queued', 'running')"
# What has ended is worked on only for a task of it that has not, and only until it is let go.
_RENEW_ENDED = f"""UPDATE jobs AS j SET lease_until = :until WHERE owner = :owner
    AND state IN ('succeeded', 'failed', 'moderated', 'cancelled', 'expired', 'unknown')
    AND lease_until > :now AND lease_until <= :longest AND ({OPEN_TASK} OR {DUE_TASK})"""  # noqa: S608  # our own text
_RESOLVE = """UPDATE sends SET resolved = ? WHERE job_id = ? AND EXISTS (SELECT 1 FROM money WHERE money = 'risk'
    AND money.job_id = sends.job_id AND money.attempt = sends.attempt AND money.part = sends.part
    AND money.send = sends.send)"""
_FORGETTABLE = """SELECT job_id FROM jobs WHERE state NOT IN ('queued', 'running', 'unknown')
    AND (:before IS NULL OR updated_at < :before) AND (:job_id IS NULL OR job_id = :job_id)
    AND NOT EXISTS (SELECT 1 FROM money WHERE money.job_id = jobs.job_id AND money = 'risk')"""


def begin(tx: Tx, new: NewJob, lease_s: float, words: tuple[str | None, str | None]) -> Begun:
    """Insert a job and claim its key, or find the one that has it; `words` are the prompt and its hash, as kept."""
    found = None
    if new.idempotency_key is not None:
        key = (new.tenant, new.idempotency_key)
        found = tx.row("SELECT job_id FROM jobs WHERE tenant = ? AND idempotency_key = ?", *key)
    if found or tx.job(new.job_id):
        existing = read_job(tx.db, tx.now, found["job_id"] if found else new.job_id)
        assert existing is not None
        return Existing(existing, existing.request_digest == new.request_digest)
    tags = dict(new.tags)
    tx.run(
        _INSERT_JOB,
        (new.job_id, new.request_digest, *words, new.model, new.mode, json.dumps(tags), new.tenant,
         new.idempotency_key, new.created_at, tx.now, new.deadline_at, new.owner, new.owner, tx.now + lease_s),
    )  # fmt: skip
    for item in tags.items():
        tx.run("INSERT INTO tags VALUES (?, ?, ?)", (new.job_id, *item))
    tx.note(new.job_id, new.owner, "begun", moved=(None, "queued"))
    return New(new.job_id)


def intents(tx: Tx, job_id: str, attempt: int, sends: Sequence[NewSend], *, owner: str, caps: Sequence[Cap]) -> bool:
    """Whether these submits may leave; they are in the ledger then.

    Not when the job has ended or is another's, or was taken over (a takeover only polls), and not when one of these
    parts was sent before and not surely refused.

    Raises:
        OverBudget: A cap has no room for all of them.
    """
    job = tx.job(job_id)
    if job is None or job["state"] not in _OPEN or not job["owner"] == job["submitter"] == owner:
        return False
    before = [tx.last_send(job_id, attempt, one.part) for one in sends]
    if any(one is not None and one["outcome"] != "refused" for one in before):
        return False
    budgeted = any(not cap.at_risk_only for cap in caps)
    prices = [_reserved(tx, one) if budgeted else one.price for one in sends]
    for cap in (current(one, tx.now) for one in caps):
        _check(tx, cap, (job_id, attempt), sends, prices)
    for one, last, price in zip(sends, before, prices, strict=True):
        send = 0 if last is None else last["send"] + 1
        names = (job_id, attempt, one.part, send, one.provider, one.model)
        tx.run(_INSERT_SEND, (*names, amount(price), amount(one.price), owner, tx.now))
        tx.note(job_id, owner, "intent", f"attempt {attempt} part {one.part}: {one.provider}/{one.model}")
    return True


def _reserved(tx: Tx, one: NewSend) -> Decimal | None:
    """What a budget is to hold for a submit: its price, or what the last one of that price was reported to cost."""
    if one.price is None:
        return None
    last = tx.row(_REPORTED, one.provider, one.model, amount(one.price))
    return one.price if last is None or last["cost"] is None else max(one.price, Decimal(last["cost"]))


def _check(
    tx: Tx, cap: Cap, going_on: tuple[str, int], sends: Sequence[NewSend], prices: Sequence[Decimal | None]
) -> None:
    count = counted(tx.db, tx.now, cap, going_on)
    # What is about to be sent is waited for, so that it is not at risk in the sense of such a cap.
    asked: Decimal | None = None if count is None else Decimal(0)
    for price in () if cap.at_risk_only else prices:
        # Nobody can say that an unknown price is within a limit.
        asked = None if asked is None or price is None else EXACT.add(asked, price)
    left = EXACT.subtract(cap.limit, count or Decimal(0))
    if asked is None or asked > left:
        raise OverBudget(cap, left, asked, provider=sends[0].provider, model=sends[0].model)


def take_over(tx: Tx, job_id: str, owner: str, lease_s: float) -> JobRecord | None:
    """Make a job one's own when its lease has ended: nobody submits for it any more, what was undecided is unknown.

    One that has ended is taken over as long as a task of it has not, or is to be asked for again: it is paid for.
    """
    seen, job = read_job(tx.db, tx.now, job_id), tx.job(job_id)
    if seen is None or job is None:
        return None
    if is_ended(JobState(job["state"])) and not (seen.has_open_task or seen.has_due_task):
        return None
    if seen.owner != owner and seen.lease_until > tx.now:
        return None
    until = tx.now + lease_s
    if job["owner"] == owner:
        tx.change(job, owner, "renewed", lease_until=until)
        return read_job(tx.db, tx.now, job_id)
    tx.run("UPDATE sends SET outcome = 'unknown' WHERE job_id = ? AND outcome IS NULL", (job_id,))
    changes = {"state": seen.state.value, "owner": owner, "submitter": None, "lease_until": until}
    tx.change(job, owner, "taken over", f"from {job['owner']}", **changes)
    return read_job(tx.db, tx.now, job_id)


def renew(tx: Tx, owner: str, lease_s: float) -> int:
    """Prolong the lease of all that an owner works on; 0 seconds let it go."""
    values = {"until": tx.now + lease_s, "owner": owner, "now": tx.now, "longest": tx.now + 2 * LEASE_S}
    return sum(tx.run(sql, values).rowcount for sql in (_RENEW, _RENEW_ENDED))


def reopen(tx: Tx, job_id: str, owner: str, lease_s: float) -> JobRecord | None:
    """Let a job be tried anew that ended without a success, and for which surely nothing was or will be paid."""
    seen, job = read_job(tx.db, tx.now, job_id), tx.job(job_id)
    if seen is None or job is None or not is_ended(seen.state) or seen.state is JobState.SUCCEEDED:
        return None
    if seen.at_risk or seen.charged:
        return None
    until = tx.now + lease_s
    tx.change(job, owner, "reopened", state="queued", owner=owner, submitter=owner, lease_until=until, error=None)
    return read_job(tx.db, tx.now, job_id)


def resolve(tx: Tx, job_id: str, who: str, *, charged: bool) -> bool:
    """Settle by a person's word what is at risk; one that nobody works on and that had not ended has failed."""
    seen, job = read_job(tx.db, tx.now, job_id), tx.job(job_id)
    if seen is None or job is None or (seen.state in _OPEN and seen.lease_until > tx.now):
        return False
    if is_ended(seen.state) and not seen.at_risk:
        return False
    word = "charged" if charged else "free"
    tx.run(_RESOLVE, (word, job_id))
    state = seen.state if is_ended(seen.state) else JobState.FAILED
    tx.change(job, who, "resolved", word, state=state.value, submitter=None)
    return True


def drain(tx: Tx, provider: str, who: str, why: str) -> bool:
    """Note that a provider takes no new jobs; who said so first, and why, stays."""
    row = (provider, tx.now, who, why)
    return tx.run("INSERT INTO drains VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount > 0


def undrain(tx: Tx, provider: str) -> bool:
    """Let it take jobs again."""
    return tx.run("DELETE FROM drains WHERE provider = ?", (provider,)).rowcount > 0


def note_balance(tx: Tx, provider: str, origin: str, *, left: Decimal, unit: str, usd: Decimal | None) -> None:
    """Keep what was left at a provider; it may be below zero."""
    row = (provider, origin, tx.now, format(left, "f"), unit, None if usd is None else format(usd, "f"))
    tx.run("INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)


def forget(tx: Tx, before: float | None, job_id: str | None) -> int:
    """Delete jobs that have ended, with all that belongs to them, but none with money at risk."""
    found = tx.run(_FORGETTABLE, {"before": before, "job_id": job_id}).fetchall()
    if before is not None and job_id is None:
        tx.run("DELETE FROM balances WHERE read_at < ?", (before,))
        # No budget is longer than a month; what is younger counts, forgotten or not.
        tx.run("DELETE FROM tally WHERE day < MIN(? / 86400, (SELECT MAX(day) FROM tally) - 62)", (before,))
    for table in ("jobs", "tags", "sends", "handles", "events"):
        tx.db.executemany(f"DELETE FROM {table} WHERE job_id = ?", found)  # noqa: S608  # our own names
    return len(found)
