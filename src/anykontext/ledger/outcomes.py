"""The rules for what came of a submit, and of a job: facts, which are recorded whoever brings them, however late."""

import json
import logging
from decimal import Decimal
from typing import Any

from anykontext.ledger.reads import OPEN_TASK
from anykontext.ledger.records import Finish, Outcome, is_ended
from anykontext.ledger.told import Told, line
from anykontext.ledger.tx import Tx
from anykontext.model.job import JobState

log = logging.getLogger("anykontext")
_told: set[str] = set()
_WRITE_SEND = """UPDATE sends SET outcome = :outcome, ended_at = :ended_at, kind = :kind, message = :message,
    maybe_charged = :maybe_charged, cost = :cost, basis = :basis
    WHERE job_id = :job_id AND attempt = :attempt AND part = :part AND send = :send"""
# Without a word on the cost, a task that can be asked for is paid by its own end: it may not have ended yet.
_TO_PAY = """SELECT part, ended_at FROM sends s WHERE job_id = :job_id AND attempt = :attempt AND outcome = 'accepted'
    AND basis IS NULL AND (:told OR NOT EXISTS (SELECT 1 FROM handles h WHERE h.job_id = s.job_id
        AND h.attempt = s.attempt AND h.part = s.part)) ORDER BY ended_at IS NOT NULL, part"""
_OPEN = f"SELECT 1 FROM jobs j WHERE job_id = ? AND {OPEN_TASK}"  # noqa: S608  # our own text
_LOST = """SELECT provider, model FROM money WHERE job_id = ? AND money = 'risk'
    AND COALESCE(outcome, 'unknown') = 'unknown' ORDER BY attempt LIMIT 1"""
_LATEST = """SELECT attempt FROM sends WHERE job_id = ?
    ORDER BY COALESCE(outcome, '') = 'accepted' DESC, attempt DESC LIMIT 1"""


def accepted(tx: Tx, job_id: str, attempt: int, part: int, *, handle: str | None, owner: str) -> bool:
    """Add a handle. Whether the job runs now; else it had ended, and a success would be surplus."""
    if handle is not None:
        sql = "INSERT INTO handles VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        tx.run(sql, (job_id, attempt, part, handle, tx.now, owner))
    last = tx.last_send(job_id, attempt, part)
    if last is not None and last["outcome"] != "accepted":
        tx.run(
            _WRITE_SEND,
            last | {"outcome": "accepted", "ended_at": None, "kind": None, "message": "", "maybe_charged": 0},
        )
    job = tx.job(job_id)
    where = f"attempt {attempt} part {part}"
    if job is None or is_ended(JobState(job["state"])):
        tx.note(job_id, owner, "accepted", f"{where}, too late")
        return False
    tx.change(job, owner, "accepted", where, state="running")
    return True


def sent_end(
    tx: Tx, job_id: str, attempt: int, part: int, *, outcome: Outcome, kind: str | None, message: str,
    maybe_charged: bool, cost: Told, owner: str,
) -> bool:  # fmt: skip
    """Write the end of a submit, or of its task; whether there was such a submit."""
    last = tx.last_send(job_id, attempt, part)
    if last is None:
        return False
    after = last | {"ended_at": tx.now, "kind": kind, "message": message, "maybe_charged": int(maybe_charged)}
    if last["outcome"] != "accepted":  # a later doubt does not take back what a handle has proven
        after["outcome"] = outcome
    known, basis = cost
    if basis is not None and (known is not None or last["cost"] is None):  # nor an unknown amount a known one
        after |= {"cost": known, "basis": basis}
        _warn(last, known, basis)
    tx.run(_WRITE_SEND, after)
    tx.note(job_id, owner, "ended", f"attempt {attempt} part {part}: {kind or outcome}")
    return True


def _warn(send: dict[str, Any], cost: str | None, basis: str) -> None:
    """Say once that images cost more than their price list says: a budget reserves what it says, at first."""
    where = f"{send['provider']}/{send['model']}"
    dearer = basis == "reported" and cost and send["price"] and Decimal(cost) > Decimal(send["price"])
    if dearer and where not in _told:
        _told.add(where)
        log.warning(
            "%s reports that %s USD were charged for what is listed at %s USD: a budget may be passed by that; "
            "set the true price in [providers.%s.prices]", where, cost, send["price"], send["provider"],
        )  # fmt: skip


def finish(
    tx: Tx, job_id: str, state: JobState, *, owner: str, version: int | None, attempt: int | None,
    result: str | None, error: str | None, cost: Told,
) -> Finish:  # fmt: skip
    """End a job. A success always counts: as the end, or as surplus when the job had ended otherwise.

    Without a success it does not end while a task of it may still give an image, and is unknown as long as nobody
    knows what came of a submit of it.
    """
    job = tx.job(job_id)
    if job is None:
        return Finish.REFUSED
    success = state is JobState.SUCCEEDED
    by = attempt if attempt is not None else _latest(tx, job_id)
    if is_ended(JobState(job["state"])):
        return _late(tx, job, owner, by, result=result, cost=cost) if success else Finish.REFUSED
    # An unknown job for which it turned out that nothing is at risk may be ended by whoever found that out.
    mine = job["owner"] == owner or (job["state"] == "unknown" and not tx.any_risk(job_id))
    if not success and (not mine or version not in {None, job["version"]}):
        return Finish.REFUSED
    if not success and tx.row(_OPEN, job_id):
        return Finish.OPEN
    if not success and (lost := tx.row(_LOST, job_id)):
        state, error = JobState.UNKNOWN, _in_doubt(lost, error)
    _pay(tx, job_id, by, cost, success=success)
    ended_by = by if success else None
    tx.change(job, owner, "finished", state=state.value, result=result, error=error, ended_by=ended_by)
    return Finish.RECORDED


def _in_doubt(lost: dict[str, Any], error: str | None) -> str:
    """The error of a job of which an attempt has ended, and a submit was lost."""
    other = json.loads(error) if error else {}
    if error and other.get("kind") == "outcome_unknown":
        return error
    message = f"a submit to {lost['provider']}/{lost['model']} was lost, and nobody knows whether it was accepted"
    if other:
        message = line(f"{message}; another attempt of the job ended: {other['message']}")
    told = {"class": "OutcomeUnknown", "kind": "outcome_unknown", "message": message, **lost, "maybe_charged": True}
    return json.dumps({**other, **told, "http_status": None}, separators=(",", ":"))


def _late(tx: Tx, job: dict[str, Any], owner: str, by: int | None, *, result: str | None, cost: Told) -> Finish:
    """A success after the end: the state stays; the money, and what is needed to find the images, are kept."""
    job_id, before = job["job_id"], json.loads(job["result"] or "{}")
    if before.get("aside") and not json.loads(result or "{}").get("aside"):
        return _given(tx, job, owner, by, result=result, cost=cost)
    start = f'{{"attempt":{"null" if by is None else by},'
    late = [row[0] for row in tx.run("SELECT detail FROM events WHERE job_id = ? AND what = 'surplus'", (job_id,))]
    known = (job["state"] == "succeeded" and job["ended_by"] == by) or any(one.startswith(start) for one in late)
    kept = "".join([job["result"] or "", *late])
    if known and all(sha256 in kept for sha256 in _images(result)):
        return Finish.REPEATED
    _pay(tx, job_id, by, cost, success=True)
    tx.change(job, owner, "surplus", f'{start}"result":{result or "null"}}}', surplus=1)
    return Finish.SURPLUS


def _given(tx: Tx, job: dict[str, Any], owner: str, by: int | None, *, result: str | None, cost: Told) -> Finish:
    """What the caller is given is the result from now on; what was collected on the side before it is surplus."""
    if job["ended_by"] == by and _images(job["result"]) <= _images(result):
        tx.change(job, owner, "given", result=result)
        return Finish.REPEATED
    _pay(tx, job["job_id"], by, cost, success=True)
    before, now = ("null" if one is None else one for one in (job["ended_by"], by))
    detail = f'{{"attempt":{before},"given":{now},"result":{job["result"]}}}'
    tx.change(job, owner, "surplus", detail, result=result, ended_by=by, surplus=1)
    return Finish.RECORDED


def _images(result: str | None) -> set[str]:
    return {image["sha256"] for image in json.loads(result or "{}").get("images", ())}


def _pay(tx: Tx, job_id: str, attempt: int | None, cost: Told, *, success: bool) -> None:
    """Write the cost of a whole attempt to its submits: the first has the sum, the others are in it.

    Submits whose cost was told one by one keep it. A success without a cost cost an amount that we do not know.
    """
    known, basis = cost
    if attempt is None or (basis is None and not success):
        return
    rows = tx.run(_TO_PAY, {"job_id": job_id, "attempt": attempt, "told": basis is not None}).fetchall()
    for index, (part, ended_at) in enumerate(rows):
        last = tx.last_send(job_id, attempt, part)
        assert last is not None
        if index == 0 or ended_at is None:
            own = known if index == 0 or known is None else "0"
            tx.run(_WRITE_SEND, last | {"ended_at": ended_at or tx.now, "cost": own, "basis": basis or "unknown"})


def _latest(tx: Tx, job_id: str) -> int | None:
    """The latest attempt that was accepted, else the latest."""
    row = tx.row(_LATEST, job_id)
    return None if row is None else int(row["attempt"])
