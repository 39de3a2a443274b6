"""How an attempt ends when it does not end well, and how that becomes the error that the caller sees."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from anykontext.adapting import Failed, Kind, Refused, State, Task
from anykontext.engine.effects import Flow, Heard, Lost, NotAdmitted
from anykontext.engine.money_table import Charged, Row, reply_of
from anykontext.engine.pace import retry_after
from anykontext.engine.policy import FAILOVER_ON
from anykontext.engine.provider import Candidate
from anykontext.engine.redact import cleaned, excerpt
from anykontext.model.errors import ERROR_OF_KIND, Moderated, ProviderError, Stage
from anykontext.model.job import JobHandle, JobState

T = TypeVar("T")
MESSAGE = 600  # characters that an error shows of a provider's own words
REASON, REASONS = 200, 20  # characters of a reason, and how many of them
STATE_OF_KIND = {
    Kind.MODERATED: JobState.MODERATED,
    Kind.CANCELLED: JobState.CANCELLED,
    Kind.RESULT_EXPIRED: JobState.EXPIRED,
    Kind.OUTCOME_UNKNOWN: JobState.UNKNOWN,
    Kind.DEADLINE_EXCEEDED: JobState.RUNNING,
}


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt, or one task of it, that gave no image.

    Attributes:
        kind: The canonical word.
        message: What happened.
        maybe_charged: Whether money may have been spent on it.
        http_status: Of the reply that told so.
        raw: That reply, shortened and cleaned.
        retry_after: Seconds that the provider asked for.
        stage: For moderation.
        reasons: For moderation.
        advice: What to do, where it is more than the kind's own advice.
        images: How many images it stands for.
        also: The ends of the other tasks of the same attempt, where this one speaks for several.
        task: What may still end well at the provider, although we stopped asking.
        skipped: Why nothing was even sent; None where something was.
    """

    kind: Kind
    message: str
    maybe_charged: bool
    http_status: int | None = None
    raw: str | None = None
    retry_after: float | None = None
    stage: Stage = "unknown"
    reasons: tuple[str, ...] = ()
    advice: str | None = None
    images: int = 1
    also: tuple["Ended", ...] = ()
    task: Task | None = None
    skipped: NotAdmitted | None = None

    @property
    def all(self) -> tuple["Ended", ...]:
        """This end, and those that it speaks for."""
        return (self, *self.also)

    @property
    def state(self) -> JobState:
        """The state of the job that it leaves behind: of several, what may still run, or is undecided, counts first."""
        states = [_state_after(one) for one in self.all]
        return next((one for one in (JobState.RUNNING, JobState.UNKNOWN) if one in states), states[0])

    def error(self, candidate: Candidate, job_id: str, handle: JobHandle | None) -> ProviderError:
        """The error of its kind."""
        more: dict[str, Any] = {"stage": self.stage, "reasons": self.reasons} if self.kind is Kind.MODERATED else {}
        cls = ERROR_OF_KIND[self.kind]
        assert self.kind is not Kind.MODERATED or issubclass(cls, Moderated)
        return cls(
            self.message,
            provider=candidate.provider.name,
            model=candidate.model,
            http_status=self.http_status,
            raw=self.raw,
            retry_after=self.retry_after,
            handle=handle,
            job_id=job_id,
            maybe_charged=self.maybe_charged,
            advice=self.advice,
            **more,
        )


def _state_after(end: Ended) -> JobState:
    if end.kind is Kind.DEADLINE_EXCEEDED and not end.maybe_charged:
        return JobState.FAILED  # nothing was sent, so nothing runs
    return STATE_OF_KIND.get(end.kind, JobState.FAILED)


def ended_by(row: Row, heard: Heard | None, state: State | None) -> Ended:
    """The end that a row of the money table names, with what was heard; that is None where a vendor's SDK heard it."""
    reply = reply_of(heard)
    told = state if isinstance(state, Failed | Refused) else None
    if isinstance(heard, Lost):
        message = f"{row.happened}: {heard.message}"
    elif row.kind is None or row.charged is Charged.NO or row.kind is Kind.JOB_NOT_FOUND:
        message = told.message if told else str(row.happened)
    else:
        place = f" (HTTP {reply.status})" if reply else ""
        message = f"{row.happened}{place}: {told.message if told else ''}".rstrip(": ")
    message = cleaned(message, MESSAGE) or str(row.happened)
    charged = row.charged is Charged.MAYBE
    if row.charged is Charged.AS_SAID:
        charged = isinstance(state, Failed) and state.maybe_charged
    return Ended(
        kind=row.kind or (told.kind if told else Kind.PROTOCOL_ERROR),
        message=message,
        maybe_charged=charged,
        http_status=reply.status if reply else None,
        raw=excerpt(reply.body) if reply else None,
        retry_after=_wait_s(told, heard),
        stage=told.stage if told else "unknown",
        reasons=tuple(cleaned(reason, REASON) for reason in told.reasons[:REASONS]) if told else (),
    )


def _wait_s(told: Failed | Refused | None, heard: Heard | None) -> float | None:
    if isinstance(told, Refused) and told.retry_after_s is not None:
        return told.retry_after_s
    return None if heard is None else retry_after(heard)


def safely(flow: Flow[T]) -> Flow[T | Ended]:
    """One of several flows: an error of ours or of an adapter in it is its own end, and not that of its siblings."""
    try:
        return (yield from flow)
    except Exception as error:  # noqa: BLE001 - the siblings may be paid for
        message = f"an error in anykontext or its adapter: {type(error).__name__}: {error}"
        return Ended(Kind.OUTCOME_UNKNOWN, message[:MESSAGE], maybe_charged=True)


def gravest(ends: Sequence[Ended]) -> Ended:
    """The end that speaks for several tasks, and holds the others.

    One that may have been charged comes before one that surely was not, then a moderated one, then one after which
    no other provider would be asked.
    """
    every = [one for end in ends for one in end.all]
    worst = min(every, key=lambda end: (not end.maybe_charged, end.kind is not Kind.MODERATED, end.kind in FAILOVER_ON))
    return replace(worst, also=tuple(replace(one, also=()) for one in every if one is not worst))
