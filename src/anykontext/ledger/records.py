"""What goes into the ledger and what comes out of it: frozen values that JSON can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from anykontext.model.errors import Kind
from anykontext.model.frozen import Frozen, thaw
from anykontext.model.job import JobHandle, JobState, Mode

# Ends of a task. All other ends are ends of our asking: the image may be there, and is asked for again by the job's id.
FINAL = frozenset({Kind.MODERATED.value, Kind.GENERATION_FAILED.value, Kind.CANCELLED.value})
Outcome = Literal["accepted", "refused", "unknown"]
_NOT_ENDED = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.UNKNOWN})


def is_ended(state: JobState) -> bool:
    """Whether nothing more is to come. `unknown` is no such end here: a late handle makes it run again."""
    return state not in _NOT_ENDED


class Record:
    """The base of all values here."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form: amounts as texts, so that no digit is lost."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses


def _plain(value: Any) -> Any:
    if isinstance(value, JobHandle):
        return value.to_dict()
    if isinstance(value, Decimal):
        return format(value, "f")
    return thaw(value)


@dataclass(frozen=True, slots=True)
class NewJob(Record):
    """A request that is about to become a job.

    Attributes:
        job_id: Our own id.
        request_digest: The same for the same request, another for another one.
        prompt: The words; a ledger with `prompts="digest"` keeps their SHA-256 only.
        model: The canonical model that was asked for.
        mode: `edit` or `generate`.
        created_at: Seconds of the wall clock.
        owner: The process instance that works on it.
        tags: Words of the caller.
        tenant: Within which the idempotency key counts.
        idempotency_key: The same key within a tenant means the same job.
        deadline_at: When the caller stops waiting, in seconds of the wall clock.
    """

    job_id: str
    request_digest: str
    prompt: str | None = field(repr=False)
    model: str
    mode: Mode
    created_at: float
    owner: str
    tags: Mapping[str, str] = field(default_factory=Frozen)
    tenant: str = ""
    idempotency_key: str | None = None
    deadline_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobRecord(Record):
    """A job as the ledger knows it.

    Attributes:
        state: Where it is, as seen now: a job whose process is gone with a submit undecided is `unknown`.
        version: Grows with each change of the state or the owner.
        owner: The process instance that works on it.
        lease_until: Until when nobody else may take it over.
        result: What `told_result` made of the result; None while there is none.
        error: What `told_error` made of the error.
        surplus: Whether a success came after the job had ended otherwise; the events tell of it.
        provider: That of the attempt whose images ended it, else of the latest submit.
        at_risk: Whether money may have been spent on it that is not settled.
        charged: Whether money was spent on it.
        has_open_task: Whether a task that can be asked for has not ended, as far as is known: its image may still come,
            also where the job has ended by another attempt.
        has_due_task: Whether a task of it that may be paid, and of which no image could be had, is to be asked for
            again.
    """

    job_id: str
    request_digest: str
    prompt: str | None = field(repr=False)
    prompt_sha256: str | None
    model: str
    mode: Mode
    tags: Mapping[str, str]
    tenant: str
    idempotency_key: str | None
    created_at: float
    updated_at: float
    deadline_at: float | None
    state: JobState
    version: int
    owner: str
    lease_until: float
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    surplus: bool
    provider: str | None
    at_risk: bool
    charged: bool
    has_open_task: bool
    has_due_task: bool


@dataclass(frozen=True, slots=True)
class New(Record):
    """The job is in the ledger now."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Existing(Record):
    """The idempotency key, or the job id, belongs to this job; `same_request` says whether it asks the same."""

    job: JobRecord
    same_request: bool


Begun = New | Existing


@dataclass(frozen=True, slots=True)
class NewSend(Record):
    """One submit that is about to leave; `price` is the USD that it puts at risk, None when that is unknown."""

    part: int
    provider: str
    model: str
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class SendRecord(Record):
    """One submit, and what came of it.

    Attributes:
        send: 0 for the first submit of this part; more where the one before was surely refused.
        price: The USD that it put at risk; None is unknown.
        listed: The USD of the price list; less than `price` where such submits were reported to cost more.
        outcome: None while nothing is known.
        ended_at: When the task, or the exchange that was refused or lost, had ended.
        cost: What it cost in USD, where that is known.
        basis: That of the cost; None while nothing is known to have been charged.
        resolved: `charged` or `free`, where a person has said so.
        money: `spent`, `risk` or `free`.
    """

    job_id: str
    attempt: int
    part: int
    send: int
    provider: str
    model: str
    price: Decimal | None
    listed: Decimal | None
    owner: str
    intent_at: float
    outcome: Outcome | None
    ended_at: float | None
    kind: str | None
    message: str
    maybe_charged: bool
    cost: Decimal | None
    basis: str | None
    resolved: str | None
    money: Literal["spent", "risk", "free"]


@dataclass(frozen=True, slots=True)
class HandleRecord(Record):
    """A handle that a provider gave for one part of an attempt."""

    job_id: str
    attempt: int
    part: int
    handle: JobHandle
    added_at: float
    added_by: str


@dataclass(frozen=True, slots=True)
class EventRecord(Record):
    """One line of a job's history."""

    seq: int
    job_id: str
    at: float
    who: str
    what: str
    from_state: JobState | None
    to_state: JobState | None
    detail: str


class Finish(StrEnum):
    """What became of an end that was reported."""

    RECORDED = "recorded"
    SURPLUS = "surplus"  # a success, after the job had ended otherwise
    REPEATED = "repeated"  # this success was recorded before
    REFUSED = "refused"  # the job has ended, has another owner or version, or is not known
    OPEN = "open"  # a task of it may still give an image, so that the job is not over without one


@dataclass(frozen=True, slots=True)
class DrainRecord(Record):
    """A provider that takes no new jobs, by a person's word.

    Attributes:
        provider: Its name in the configuration.
        since: Seconds of the wall clock.
        who: Who said so.
        why: As they put it; may be empty.
    """

    provider: str
    since: float
    who: str
    why: str

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"drained by {self.who} since {when}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class BalanceRecord(Record):
    """What was left at a provider at one time.

    Attributes:
        provider: Its name in the configuration.
        origin: Its base URL then.
        read_at: Seconds of the wall clock.
        amount: In `unit`.
        unit: `credits` or a currency.
        usd: The same in USD; None where the rate is not known.
    """

    provider: str
    origin: str
    read_at: float
    amount: Decimal
    unit: str
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class SpendRow(Record):
    """Sums in USD over the submits of one group.

    Attributes:
        group: The group's value for each word of `by`; None where a job has no such tag.
        spent: What is known to have been paid.
        at_risk: What may have been paid.
        unknown: How many of its submits cost, or put at risk, an amount that nobody knows.
        sends: How many submits these are; those that surely cost nothing are not among them.
    """

    group: Mapping[str, str | None]
    spent: Decimal
    at_risk: Decimal
    unknown: int
    sends: int
