"""What every ledger can do, whatever holds it. One contract in the tests runs against all of them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, Protocol, Self

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
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import Cap, Cost

LEASE_S = 60.0


class Ledger(Protocol):
    """A ledger. It is safe to use from threads, and several processes may share one.

    Writes return at once. Their future resolves when the record is durable: `.result()` waits for it in a thread,
    `asyncio.wrap_future` in a loop. It cannot be cancelled, and it raises a `LedgerError` when the record could not
    be written. Reads block for as long as a query takes, and raise a `LedgerError` when it cannot be made.
    """

    def begin(self, new: NewJob, *, lease_s: float = LEASE_S) -> Future[Begun]:
        """Insert a job and claim its idempotency key, or find the job that has it."""

    def intent(
        self, job_id: str, attempt: int, part: int, *, provider: str, model: str, price: Decimal | None, owner: str,
        caps: Sequence[Cap] = (),
    ) -> Future[bool]:  # fmt: skip
        """Whether one submit may leave; see `intents`."""

    def intents(
        self, job_id: str, attempt: int, sends: Sequence[NewSend], *, owner: str, caps: Sequence[Cap] = ()
    ) -> Future[bool]:
        """Write down submits before their first byte leaves, all or none; without True nothing may be sent.

        False, with nothing written: the job is not known, has ended, is another's or was taken over, or a part was
        sent before in this attempt and not surely refused. `OverBudget`: a cap has no room for all of them, or the
        price of one is unknown, which no cap can hold.
        """

    def accepted(self, job_id: str, attempt: int, part: int, handle: JobHandle | None, *, owner: str) -> Future[bool]:
        """Add what a provider has accepted, whoever owns the job; None where it names no task.

        An unknown job runs again then: True. False: the job had ended otherwise.
        """

    def sent_end(
        self, job_id: str, attempt: int, part: int, outcome: Outcome, *, owner: str, kind: str | None = None,
        message: str = "", maybe_charged: bool = False, cost: Cost | None = None,
    ) -> Future[bool]:  # fmt: skip
        """Write how a submit, or its task, has ended; a cost says that it was charged, of an unknown amount too."""

    def finish(
        self, job_id: str, state: JobState, *, owner: str, version: int | None = None, attempt: int | None = None,
        result: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None, cost: Cost | None = None,
        aside: bool = False,
    ) -> Future[Finish]:  # fmt: skip
        """End a job, or call it unknown. For its owner, and when given for this version only; a success always counts.

        Without one it stays open while a task of it may still give an image, and is unknown while a submit of it is.
        `attempt` says which one it was (default: the latest that was accepted); `cost` is that of the whole attempt.
        The first success is the result, except that one which was collected `aside` gives way to one which was not.
        """

    def take_over(self, job_id: str, owner: str, *, lease_s: float = LEASE_S) -> Future[JobRecord | None]:
        """Make a job one's own, to poll it: only when its lease has ended. None: it has not, or nothing can come of it.

        A lease of more than 2 * LEASE_S has ended, too: the wall clock has jumped back since it was written.
        """

    def renew(self, owner: str, *, lease_s: float = LEASE_S) -> Future[int]:
        """Prolong the leases of all running jobs of an owner; 0 seconds let them go."""

    def reopen(self, job_id: str, owner: str, *, lease_s: float = LEASE_S) -> Future[JobRecord | None]:
        """Let a job be submitted anew, under its id and key, that failed and surely cost nothing; else None."""

    def resolve(self, job_id: str, *, charged: bool, who: str) -> Future[bool]:
        """Settle what is at risk by a person's word; a job that had not ended has failed then.

        False: there is nothing to settle, or somebody works on it.
        """

    def note(self, job_id: str, what: str, detail: str, *, who: str) -> Future[None]:
        """Add a line to the history of a job."""

    def forget(self, *, before: float | None = None, job_id: str | None = None) -> Future[int]:
        """Delete jobs that have ended, without a trace; those with money at risk stay until they are resolved."""

    def job(self, job_id: str) -> JobRecord | None:
        """One job."""

    def jobs(
        self, *, state: JobState | None = None, since: float | None = None, until: float | None = None,
        tag: str | None = None, limit: int = 100,
    ) -> list[JobRecord]:  # fmt: skip
        """Jobs, the newest first; `tag` is a `name` or `name=value`."""

    def unfinished(self) -> list[JobRecord]:
        """Jobs that nobody works on: to be taken over and polled, or reported as unknown.

        They have not ended, or have ended while a task of an attempt that was left has not.
        Jobs that are written down as unknown are not among them; `jobs(state=JobState.UNKNOWN)` has them.
        """

    def sends(self, job_id: str) -> list[SendRecord]:
        """Every submit of a job."""

    def handles(self, job_id: str) -> list[HandleRecord]:
        """Every handle of a job that can be read; `events` tells of others."""

    def events(self, job_id: str) -> list[EventRecord]:
        """The history of a job."""

    def spend(
        self, *, since: float | None = None, until: float | None = None, by: Sequence[str] = ("provider",),
        tag: str | None = None,
    ) -> list[SpendRow]:  # fmt: skip
        """Sums over the submits of a time, by any of `provider`, `model`, `day` (UTC), `job`, `tag:<name>`."""

    def durations(self, limit: int = 50) -> dict[tuple[str, str], list[float]]:
        """Seconds from submit to image by provider and model: of the last successes of 30 days, the newest last.

        At most `limit` of each, and only among the last some thousands of submits. They go by the provider's name: an
        emulator that was configured under the name of the service is among them.
        """

    def has_key(self, tenant: str, idempotency_key: str) -> bool:
        """Whether a job has this key."""

    def left(self, caps: Sequence[Cap]) -> list[tuple[Cap, Decimal]]:
        """Each cap with what is left of it in USD, never below zero: `intents` alone reserves it."""

    def tag_values(self, name: str, *, since: float) -> list[str]:
        """The values of a tag of which anything counts against budgets since the begin of a day (UTC)."""

    def note_balance(self, provider: str, origin: str, amount: Decimal, unit: str, usd: Decimal | None) -> Future[None]:
        """Keep what was left at a provider, to be compared with what was spent."""

    def balances(self, provider: str, origin: str) -> list[BalanceRecord]:
        """What was read of one provider's balance, the oldest first."""

    def drain(self, provider: str, *, who: str, why: str = "") -> Future[bool]:
        """Let a provider take no new jobs, in every process that shares the ledger. False: it was drained before."""

    def undrain(self, provider: str) -> Future[bool]:
        """Let it take jobs again. False: it was not drained."""

    def drains(self) -> list[DrainRecord]:
        """The providers that are drained, by name."""

    def close(self) -> None:
        """Write what was asked for, and let go of everything; once more does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
