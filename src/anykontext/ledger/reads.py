"""What can be asked of the ledger. Every function reads inside one transaction that the caller has opened."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from anykontext.ledger.protocol import LEASE_S
from anykontext.ledger.records import (
    FINAL,
    BalanceRecord,
    DrainRecord,
    EventRecord,
    HandleRecord,
    JobRecord,
    SendRecord,
    SpendRow,
)
from anykontext.ledger.told import line
from anykontext.model.errors import InvalidRequest
from anykontext.model.frozen import Frozen, freeze
from anykontext.model.job import JobHandle, JobState
from anykontext.model.spend import EXACT
from anykontext.model.words import near

UNREADABLE = "unreadable handle"  # stands in the history of a job for a handle that this release cannot read
_DAY_S = 86_400

_TASK = """EXISTS (SELECT 1 FROM sends o JOIN handles USING (job_id, attempt, part) WHERE o.job_id = j.job_id
    AND o.outcome = 'accepted' AND o.resolved IS NULL AND """
# A task that was accepted, that can be asked for, and whose end nobody has told; `j` is the job.
OPEN_TASK = _TASK + "o.ended_at IS NULL)"
AGAIN_S, AGAIN_AFTER_S = 86_400.0, 10.0
# One that may be paid and gave no image, by an end of our asking and not of the task: it is asked for again for a day,
# after pauses that grow as the time since its submit does.
DUE_TASK = f"""{_TASK} o.basis IS NULL AND o.maybe_charged = 1 AND o.kind NOT IN ({", ".join(map(repr, sorted(FINAL)))})
    AND o.intent_at > :now - {AGAIN_S} AND :now - o.ended_at >= MAX({AGAIN_AFTER_S}, o.ended_at - o.intent_at))"""
# A lease that is longer than any is written was written before the wall clock jumped back, and has ended.
_LEASE = f"CASE WHEN lease_until > :now + {2 * LEASE_S} THEN 0.0 ELSE lease_until END"
# A job whose owner is gone (its lease has ended) with a submit undecided and no task to ask for is unknown, written
# so or not.
_JOBS = f"""SELECT * FROM (SELECT job_id, request_digest, prompt, prompt_sha256, model, mode, tags, tenant,
    idempotency_key, created_at, updated_at, deadline_at, version, owner, {_LEASE} AS lease_until, result, error,
    surplus, {OPEN_TASK} AS has_open_task, {DUE_TASK} AS has_due_task,
    COALESCE((SELECT provider FROM sends s WHERE s.job_id = j.job_id AND s.attempt = j.ended_by LIMIT 1),
        (SELECT provider FROM sends s WHERE s.job_id = j.job_id ORDER BY attempt DESC, send DESC LIMIT 1)) AS provider,
    EXISTS (SELECT 1 FROM money m WHERE m.job_id = j.job_id AND money = 'risk') AS at_risk,
    EXISTS (SELECT 1 FROM money m WHERE m.job_id = j.job_id AND money = 'spent') AS charged,
    CASE WHEN state IN ('queued', 'running') AND {_LEASE} <= :now
        AND EXISTS (SELECT 1 FROM money m WHERE m.job_id = j.job_id AND money = 'risk'
            AND COALESCE(outcome, 'unknown') = 'unknown')
        AND NOT EXISTS (SELECT 1 FROM sends s WHERE s.job_id = j.job_id AND outcome = 'accepted' AND ended_at IS NULL)
        THEN 'unknown' ELSE state END AS state,
    state AS written
    FROM jobs j) AS seen """  # noqa: S608  # our own text
_BY_ID = _JOBS + "WHERE job_id = :job_id"
_UNFINISHED = (
    _JOBS
    + """WHERE (written IN ('queued', 'running') OR has_open_task OR has_due_task) AND lease_until <= :now
    ORDER BY created_at, job_id"""
)
_LISTED = (
    _JOBS  # noqa: S608  # our own text
    + """WHERE (:state IS NULL OR state = :state) AND (:since IS NULL OR created_at >= :since)
    AND (:until IS NULL OR created_at < :until)
    AND (:name IS NULL OR EXISTS (SELECT 1 FROM tags t WHERE t.job_id = seen.job_id AND t.name = :name
        AND (:value IS NULL OR t.value = :value)))
    ORDER BY created_at DESC, job_id LIMIT :limit"""
)
_LATE_SUCCESSES = """SELECT provider, model, ended_at - intent_at
    FROM (SELECT * FROM sends WHERE intent_at >= ? ORDER BY intent_at DESC LIMIT ?)
    WHERE outcome = 'accepted' AND ended_at > intent_at AND kind IS NULL ORDER BY intent_at DESC"""
DURATIONS_S = 30.0 * _DAY_S  # older ones say little of today
DURATIONS_ROWS = 5_000  # a bounded walk along the index of time: of who was not among these, nothing is known
# Columns and joins of the words of `by`; a tag's name is a parameter.
_GROUPS = {
    "provider": "m.provider",
    "model": "m.model",
    "job": "m.job_id",
    "day": "CAST(m.intent_at / 86400 AS INTEGER)",
}


def _rows(
    db: sqlite3.Connection, sql: str, values: Mapping[str, object] | Sequence[object]
) -> Iterator[dict[str, Any]]:
    cursor = db.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, row, strict=True)) for row in cursor)


def _job(row: dict[str, Any]) -> JobRecord:
    del row["written"]
    told = {name: freeze(json.loads(row[name])) if row[name] else None for name in ("result", "error")}
    flags = {name: bool(row[name]) for name in ("surplus", "at_risk", "charged", "has_open_task", "has_due_task")}
    return JobRecord(**row | told | flags | {"tags": Frozen(json.loads(row["tags"])), "state": JobState(row["state"])})


def read_job(db: sqlite3.Connection, now: float, job_id: str) -> JobRecord | None:
    """One job as seen now."""
    return next((_job(row) for row in _rows(db, _BY_ID, {"now": now, "job_id": job_id})), None)


def unfinished(db: sqlite3.Connection, now: float) -> list[JobRecord]:
    """Jobs that nobody works on and that have not ended, or of which a task has not; the oldest first."""
    return [_job(row) for row in _rows(db, _UNFINISHED, {"now": now})]


def jobs(
    db: sqlite3.Connection, now: float, *, state: JobState | None, since: float | None, until: float | None,
    tag: str | None, limit: int,
) -> list[JobRecord]:  # fmt: skip
    """Jobs by what they have in common, the newest first."""
    name, value = _tag(tag)
    asked = {"now": now, "state": state, "since": since, "until": until, "name": name, "value": value, "limit": limit}
    return [_job(row) for row in _rows(db, _LISTED, asked)]


def _tag(tag: str | None) -> tuple[str | None, str | None]:
    name, equals, value = (tag or "").partition("=")
    return name or None, value if equals else None


def durations(db: sqlite3.Connection, now: float, limit: int) -> dict[tuple[str, str], list[float]]:
    """What the last successes of each provider and model took, in seconds, the newest last; see `Ledger.durations`."""
    found: dict[tuple[str, str], list[float]] = {}
    for provider, model, seconds in db.execute(_LATE_SUCCESSES, (now - DURATIONS_S, DURATIONS_ROWS)):
        known = found.setdefault((provider, model), [])
        if len(known) < limit:
            known.append(seconds)
    return {candidate: known[::-1] for candidate, known in found.items()}


def sends(db: sqlite3.Connection, job_id: str) -> list[SendRecord]:
    """Every submit of a job, in the order in which they left."""
    sql = "SELECT * FROM money WHERE job_id = ? ORDER BY attempt, part, send"
    found = []
    for row in _rows(db, sql, (job_id,)):
        del row["amount"]
        amounts = {name: None if row[name] is None else Decimal(row[name]) for name in ("price", "listed", "cost")}
        found.append(SendRecord(**row | amounts | {"maybe_charged": bool(row["maybe_charged"])}))
    return found


def handles(db: sqlite3.Connection, job_id: str) -> list[HandleRecord]:
    """Every handle of a job, in the order in which they came; one that cannot be read is told by `events`."""
    return [
        HandleRecord(**row | {"handle": handle})
        for row, handle in _handles(db, job_id)
        if isinstance(handle, JobHandle)
    ]


def _handles(db: sqlite3.Connection, job_id: str) -> Iterator[tuple[dict[str, Any], JobHandle | InvalidRequest]]:
    for row in _rows(db, "SELECT * FROM handles WHERE job_id = ? ORDER BY added_at, attempt, part", (job_id,)):
        try:
            yield row, JobHandle.from_json(row["handle"])
        except InvalidRequest as error:
            yield row, error


def events(db: sqlite3.Connection, job_id: str) -> list[EventRecord]:
    """The history of a job, and at its end the handles of it that cannot be read."""
    states = ("from_state", "to_state")
    told = [
        EventRecord(**row | {name: JobState(row[name]) if row[name] else None for name in states})
        for row in _rows(db, "SELECT * FROM events WHERE job_id = ? ORDER BY seq", (job_id,))
    ]
    for row, error in _handles(db, job_id):
        if isinstance(error, InvalidRequest):
            detail = line(f"attempt {row['attempt']} part {row['part']}: {error}")
            told.append(EventRecord(0, job_id, row["added_at"], row["added_by"], UNREADABLE, None, None, detail))
    return told


def has_key(db: sqlite3.Connection, tenant: str, idempotency_key: str) -> bool:
    """Whether a job has this key."""
    sql = "SELECT 1 FROM jobs WHERE tenant = ? AND idempotency_key = ?"
    return db.execute(sql, (tenant, idempotency_key)).fetchone() is not None


def balances(db: sqlite3.Connection, provider: str, origin: str) -> list[BalanceRecord]:
    """What was read of one provider's balance, the oldest first."""
    sql = "SELECT * FROM balances WHERE provider = ? AND origin = ? ORDER BY read_at"
    return [
        BalanceRecord(**row | {name: None if row[name] is None else Decimal(row[name]) for name in ("amount", "usd")})
        for row in _rows(db, sql, (provider, origin))
    ]


def spend(
    db: sqlite3.Connection, *, since: float | None, until: float | None, by: Sequence[str], tag: str | None
) -> list[SpendRow]:
    """Sums by group, in the order of the groups; see `Ledger.spend`."""
    name, value = _tag(tag)
    values: dict[str, object] = {"since": since, "until": until, "name": name, "value": value}
    columns = [_column(word, number, values) for number, word in enumerate(by)]
    keys = ", ".join(f"{column} AS k{number}" for number, column in enumerate(columns))
    places = ", ".join(str(number + 1) for number in range(len(columns) + 2))
    sql = (
        f"SELECT {keys}{', ' if keys else ''}m.money, m.amount, COUNT(*) FROM money m "  # noqa: S608  # from _GROUPS
        "WHERE m.money <> 'free' AND (:since IS NULL OR m.intent_at >= :since) "
        "AND (:until IS NULL OR m.intent_at < :until) AND (:name IS NULL OR EXISTS (SELECT 1 FROM tags t "
        "WHERE t.job_id = m.job_id AND t.name = :name AND (:value IS NULL OR t.value = :value))) "
        f"GROUP BY {places}"
    )
    rows: dict[tuple[str | None, ...], list[Any]] = {}
    for *group, money, amount, count in db.execute(sql, values):
        row = rows.setdefault(_group(by, group), [Decimal(0), Decimal(0), 0, 0])
        row[3] += count
        if amount is None:
            row[2] += count
        else:
            place = 0 if money == "spent" else 1
            row[place] = EXACT.fma(Decimal(amount), Decimal(count), row[place])
    ordered = sorted(rows.items(), key=lambda item: [word or "" for word in item[0]])
    return [SpendRow(Frozen(dict(zip(by, group, strict=True))), *sums) for group, sums in ordered]


def drains(db: sqlite3.Connection) -> list[DrainRecord]:
    """The providers that are drained, by name."""
    return [DrainRecord(**row) for row in _rows(db, "SELECT * FROM drains ORDER BY provider", ())]


def _column(word: str, number: int, values: dict[str, object]) -> str:
    kind, colon, name = word.partition(":")
    if kind == "tag" and colon and name:
        values[f"tag{number}"] = name
        return f"(SELECT value FROM tags g WHERE g.job_id = m.job_id AND g.name = :tag{number})"  # noqa: S608
    if word not in _GROUPS:
        raise ValueError(f"spend cannot be grouped by {word!r}; {near(word, [*_GROUPS, 'tag:NAME'])}")
    return _GROUPS[word]


def _group(by: Sequence[str], group: Sequence[Any]) -> tuple[str | None, ...]:
    return tuple(
        datetime.fromtimestamp(value * _DAY_S, UTC).date().isoformat() if word == "day" else value
        for word, value in zip(by, group, strict=True)
    )
