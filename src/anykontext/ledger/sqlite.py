"""The ledger in SQLite: a file in write-ahead mode that several processes share, or the memory of this process."""

import atexit
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from decimal import Decimal
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from anykontext.ledger import counting, outcomes, reads, rules
from anykontext.ledger.errors import LedgerError
from anykontext.ledger.protocol import LEASE_S, Ledger
from anykontext.ledger.records import (
    BalanceRecord,
    Begun,
    DrainRecord,
    EventRecord,
    Finish,
    HandleRecord,
    JobRecord,
    NewJob,
    NewSend,
    Outcome,
    SendRecord,
    SpendRow,
)
from anykontext.ledger.store import Store
from anykontext.ledger.told import amount, in_usd, line, packed
from anykontext.ledger.tx import Tx
from anykontext.ledger.writer import Writer
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import Cap, Cost

T = TypeVar("T")
BUSY_S = 10.0  # how long another process may hold the file


def open_ledger(
    url: str | PathLike[str], *, now: Callable[[], float], prompts: Literal["full", "digest"] = "full",
    busy_s: float = BUSY_S,
) -> Ledger:  # fmt: skip
    """Open the ledger at a path, made where there is none, or `"memory"`.

    Args:
        url: A path, `sqlite:///PATH`, or `memory`.
        now: Seconds of the wall clock, the same for all processes that share it.
        prompts: `digest` keeps the SHA-256 of prompts only.
        busy_s: How long to wait while another process holds the file.

    Raises:
        LedgerError: It cannot be opened; the file is as it was.
    """
    text = str(url)
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "sqlite":
        raise LedgerError(f"a ledger at {scheme}:// cannot be opened by this release; SQLite and 'memory' can")
    path = None if text == "memory" else Path(rest[1:] if separator else text)
    return SqliteLedger(Store(path, busy_s=busy_s), now=now, prompts=prompts)


class SqliteLedger:
    """See `Ledger`. A copy in a forked process refuses everything (F66)."""

    def __init__(self, store: Store, *, now: Callable[[], float], prompts: Literal["full", "digest"]) -> None:
        self._store = store
        self._now = now
        self._full = prompts == "full"
        self._writer = Writer(store)
        atexit.register(self.close)

    def begin(self, new: NewJob, *, lease_s: float = LEASE_S) -> Future[Begun]:
        """Insert a job, or find the one with its key."""
        sha256 = None if new.prompt is None else hashlib.sha256(new.prompt.encode()).hexdigest()
        words = (new.prompt if self._full else None, sha256)
        return self._write(rules.begin, new, lease_s, words)

    def intent(
        self, job_id: str, attempt: int, part: int, *, provider: str, model: str, price: Decimal | None, owner: str,
        caps: Sequence[Cap] = (),
    ) -> Future[bool]:  # fmt: skip
        """Whether one submit may leave."""
        return self.intents(job_id, attempt, (NewSend(part, provider, model, price),), owner=owner, caps=caps)

    def intents(
        self, job_id: str, attempt: int, sends: Sequence[NewSend], *, owner: str, caps: Sequence[Cap] = ()
    ) -> Future[bool]:
        """Whether these submits may leave."""
        if len({one.part for one in sends}) != len(sends):
            raise ValueError("a part is sent once at a time")
        for one in sends:
            amount(one.price)  # a wrong price is found here, not in the writer's thread
        return self._write(rules.intents, job_id, attempt, tuple(sends), owner=owner, caps=tuple(caps))

    def accepted(self, job_id: str, attempt: int, part: int, handle: JobHandle | None, *, owner: str) -> Future[bool]:
        """Add a handle."""
        text = None if handle is None else handle.to_json()
        return self._write(outcomes.accepted, job_id, attempt, part, handle=text, owner=owner)

    def sent_end(
        self, job_id: str, attempt: int, part: int, outcome: Outcome, *, owner: str, kind: str | None = None,
        message: str = "", maybe_charged: bool = False, cost: Cost | None = None,
    ) -> Future[bool]:  # fmt: skip
        """Write the end of a submit."""
        return self._write(
            outcomes.sent_end, job_id, attempt, part, outcome=outcome, kind=kind, message=line(message),
            maybe_charged=maybe_charged, cost=in_usd(cost), owner=owner,
        )  # fmt: skip

    def finish(
        self, job_id: str, state: JobState, *, owner: str, version: int | None = None, attempt: int | None = None,
        result: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None, cost: Cost | None = None,
        aside: bool = False,
    ) -> Future[Finish]:  # fmt: skip
        """End a job."""
        if state in {JobState.QUEUED, JobState.RUNNING}:
            raise ValueError(f"{state} is no end")
        if result is not None and aside:
            result = {**result, "aside": True}
        return self._write(
            outcomes.finish, job_id, state, owner=owner, version=version, attempt=attempt,
            result=packed(result, prompt=self._full), error=packed(error), cost=in_usd(cost),
        )  # fmt: skip

    def take_over(self, job_id: str, owner: str, *, lease_s: float = LEASE_S) -> Future[JobRecord | None]:
        """Make a job one's own, to poll it."""
        return self._write(rules.take_over, job_id, owner, lease_s)

    def renew(self, owner: str, *, lease_s: float = LEASE_S) -> Future[int]:
        """Prolong the leases of an owner."""
        return self._write(rules.renew, owner, lease_s)

    def reopen(self, job_id: str, owner: str, *, lease_s: float = LEASE_S) -> Future[JobRecord | None]:
        """Let a job be submitted anew that surely cost nothing."""
        return self._write(rules.reopen, job_id, owner, lease_s)

    def resolve(self, job_id: str, *, charged: bool, who: str) -> Future[bool]:
        """Settle what is at risk."""
        return self._write(rules.resolve, job_id, who, charged=charged)

    def note(self, job_id: str, what: str, detail: str, *, who: str) -> Future[None]:
        """Add a line to the history of a job."""
        return self._write(Tx.note, job_id, who, what, line(detail))

    def forget(self, *, before: float | None = None, job_id: str | None = None) -> Future[int]:
        """Delete jobs that have ended."""
        if before is None and job_id is None:
            raise ValueError("say which: before a time, or a job")
        return self._writer.write(lambda db: rules.forget(Tx(db, 0.0), before, job_id), sweep=True)

    def job(self, job_id: str) -> JobRecord | None:
        """One job."""
        return self._read(reads.read_job, self._now(), job_id)

    def jobs(
        self, *, state: JobState | None = None, since: float | None = None, until: float | None = None,
        tag: str | None = None, limit: int = 100,
    ) -> list[JobRecord]:  # fmt: skip
        """Jobs, the newest first."""
        return self._read(reads.jobs, self._now(), state=state, since=since, until=until, tag=tag, limit=limit)

    def unfinished(self) -> list[JobRecord]:
        """Jobs that nobody works on and that have not ended, or of which a task has not."""
        return self._read(reads.unfinished, self._now())

    def sends(self, job_id: str) -> list[SendRecord]:
        """Every submit of a job."""
        return self._read(reads.sends, job_id)

    def handles(self, job_id: str) -> list[HandleRecord]:
        """Every handle of a job."""
        return self._read(reads.handles, job_id)

    def events(self, job_id: str) -> list[EventRecord]:
        """The history of a job."""
        return self._read(reads.events, job_id)

    def spend(
        self, *, since: float | None = None, until: float | None = None, by: Sequence[str] = ("provider",),
        tag: str | None = None,
    ) -> list[SpendRow]:  # fmt: skip
        """Sums over submits."""
        return self._read(reads.spend, since=since, until=until, by=tuple(by), tag=tag)

    def durations(self, limit: int = 50) -> dict[tuple[str, str], list[float]]:
        """What the last successes took."""
        return self._read(reads.durations, self._now(), limit)

    def has_key(self, tenant: str, idempotency_key: str) -> bool:
        """Whether a job has this key."""
        return self._read(reads.has_key, tenant, idempotency_key)

    def left(self, caps: Sequence[Cap]) -> list[tuple[Cap, Decimal]]:
        """Each cap with what is left of it."""
        return self._read(counting.left, self._now(), caps)

    def tag_values(self, name: str, *, since: float) -> list[str]:
        """The values of a tag that spend."""
        return self._read(counting.tag_values, name, since)

    def note_balance(self, provider: str, origin: str, amount: Decimal, unit: str, usd: Decimal | None) -> Future[None]:
        """Keep a balance."""
        return self._write(rules.note_balance, provider, origin, left=amount, unit=unit, usd=usd)

    def balances(self, provider: str, origin: str) -> list[BalanceRecord]:
        """What was read of a balance."""
        return self._read(reads.balances, provider, origin)

    def drain(self, provider: str, *, who: str, why: str = "") -> Future[bool]:
        """Let a provider take no new jobs."""
        return self._write(rules.drain, provider, line(who), line(why))

    def undrain(self, provider: str) -> Future[bool]:
        """Let it take jobs again."""
        return self._write(rules.undrain, provider)

    def drains(self) -> list[DrainRecord]:
        """The providers that are drained."""
        return self._read(reads.drains)

    def close(self) -> None:
        """Write what was asked for, and let go of everything. A copy in a forked process has nothing to let go of."""
        if not self._store.forked:
            self._writer.close()
            self._store.close()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, rule: Callable[..., T], *values: object, **named: object) -> Future[T]:
        return self._writer.write(lambda db: rule(Tx(db, self._now()), *values, **named))

    def _read(self, query: Callable[..., T], *values: object, **named: object) -> T:
        with self._store.reading() as db:
            return query(db, *values, **named)
