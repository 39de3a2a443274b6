"""The hand of a rule inside a transaction: the connection, the time, and what every rule does with them."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UPDATE_JOB = """UPDATE jobs SET state = :state, version = version + 1, updated_at = :updated_at, owner = :owner,
    submitter = :submitter, lease_until = :lease_until, result = :result, error = :error, ended_by = :ended_by,
    surplus = :surplus WHERE job_id = :job_id"""
_LAST_SEND = "SELECT * FROM sends WHERE job_id = ? AND attempt = ? AND part = ? ORDER BY send DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction, at one time of the wall clock."""

    db: sqlite3.Connection
    now: float

    def run(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        return self.db.execute(sql, values)

    def row(self, sql: str, *values: object) -> dict[str, Any] | None:
        """The first row as a dict by column, or None."""
        cursor = self.db.execute(sql, values)
        row = cursor.fetchone()
        return None if row is None else {name[0]: value for name, value in zip(cursor.description, row, strict=True)}

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The row of a job as it is written."""
        return self.row("SELECT * FROM jobs WHERE job_id = ?", job_id)

    def last_send(self, job_id: str, attempt: int, part: int) -> dict[str, Any] | None:
        """The latest submit of a part."""
        return self.row(_LAST_SEND, job_id, attempt, part)

    def any_risk(self, job_id: str) -> bool:
        """Whether money is at risk."""
        return self.row("SELECT 1 FROM money WHERE job_id = ? AND money = 'risk' LIMIT 1", job_id) is not None

    def note(
        self, job_id: str, who: str, what: str, detail: str = "", *, moved: tuple[str | None, str | None] = (None, None)
    ) -> None:
        """Add an event."""
        self.run(
            "INSERT INTO events (job_id, at, who, what, from_state, to_state, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (job_id, self.now, who, what, *moved, detail),
        )

    def change(self, job: dict[str, Any], who: str, what: str, detail: str = "", **changes: object) -> None:
        """Change a job and say so in its history."""
        after = job | changes | {"updated_at": self.now}
        self.run(_UPDATE_JOB, after)
        self.note(job["job_id"], who, what, detail, moved=(job["state"], after["state"]))
