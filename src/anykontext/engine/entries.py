"""What flows want kept in the ledger: plain data, written by a driver before the flow goes on."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from anykontext.engine.provider import Candidate
from anykontext.model.errors import Kind, ProviderError
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import Cap, Cost
from anykontext.model.result import ImageResult

Outcome = Literal["accepted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Intent:
    """Submits are about to leave: not one byte does before this is durable.

    Attributes:
        job_id: Our id of the job.
        attempt: Which attempt of the job.
        candidate: Where they go.
        prices: Part of the attempt -> what it puts at risk, in USD; None where no price is known.
        caps: Limits that they must not pass; the one on going on at risk only where an earlier attempt may be paid.
    """

    job_id: str
    attempt: int
    candidate: Candidate
    prices: dict[int, Decimal | None]
    caps: tuple[Cap, ...] = ()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A provider has accepted one part: what finds it again; None where the provider names no task."""

    job_id: str
    attempt: int
    part: int
    handle: JobHandle | None


@dataclass(frozen=True, slots=True)
class PartEnd:
    """How a submit, or the task that it made, has ended.

    Attributes:
        job_id: Our id of the job.
        attempt: Which attempt of the job.
        part: Which part of the attempt.
        outcome: What is known of the submit.
        kind: Of the end, where it is no success.
        message: What happened.
        maybe_charged: Whether money may have been spent on it.
        cost: What it cost, where it surely was charged.
    """

    job_id: str
    attempt: int
    part: int
    outcome: Outcome
    kind: Kind | None = None
    message: str = ""
    maybe_charged: bool = False
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job has ended for its caller; one that may still run at the provider has not.

    Attributes:
        job_id: Our id of the job.
        attempt: The attempt that ended it.
        state: The state that it leaves.
        result: Its images; their bytes are in the spool by now.
        error: What went wrong.
        aside: Whether the images were collected on the side: what the caller is given in the end stands before them.
    """

    job_id: str
    attempt: int
    state: JobState
    result: ImageResult | None = None
    error: ProviderError | None = None
    aside: bool = False


Entry = Intent | Acceptance | PartEnd | JobEnd
