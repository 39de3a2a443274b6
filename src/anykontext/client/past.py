"""What the ledger knows of a job, as the caller meets it: its result, its error, or a job that goes on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from anykontext.engine.trail import Trail
from anykontext.io.spool import Spool
from anykontext.ledger import EventRecord, HandleRecord, JobRecord, is_ended
from anykontext.model.errors import (
    ERROR_OF_KIND,
    InvalidRequest,
    Kind,
    Moderated,
    OutcomeUnknown,
    ProviderError,
    ResultExpired,
)
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import Cost
from anykontext.model.result import Adjustment, Attempt, ImageResult, ResultImage, Timings

OTHER_REQUEST = "the idempotency_key {key!r} belongs to another request (job {job_id}); use a new key for this one"


def same_request(record: JobRecord, *, same: bool) -> None:
    """Refuse a key that was used for something else.

    Raises:
        InvalidRequest: It was.
    """
    if not same:
        raise InvalidRequest(OTHER_REQUEST.format(key=record.idempotency_key, job_id=record.job_id))


def may_begin_anew(record: JobRecord) -> bool:
    """Whether a job with this key has ended without an image, and surely cost nothing."""
    ended = record.state in {JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    return ended and not record.charged and not record.at_risk


def latest_handles(handles: Sequence[HandleRecord]) -> list[tuple[int, JobHandle, tuple[int, ...]]]:
    """Each attempt that was accepted: its number, one handle for all of its tasks, and which parts they are."""
    attempts: dict[int, dict[int, HandleRecord]] = {}
    for one in handles:
        attempts.setdefault(one.attempt, {})[one.part] = one
    found = []
    for attempt, parts in sorted(attempts.items()):
        rows = [parts[part] for part in sorted(parts)]
        tasks = tuple(task for row in rows for task in row.handle.tasks)
        found.append((attempt, replace(rows[0].handle, tasks=tasks), tuple(sorted(parts))))
    return found


def placed(handle: JobHandle, kept: Sequence[HandleRecord]) -> tuple[int, tuple[int, ...]]:
    """Which attempt of its job a handle is of, and which parts its tasks are; the first, where nobody knows it."""
    places = {task.id: (one.attempt, one.part) for one in kept for task in one.handle.tasks}
    found = [places[task.id] for task in handle.tasks if task.id in places]
    attempts = {attempt for attempt, _ in found}
    if len(found) != len(handle.tasks) or len(attempts) != 1:
        return 0, ()
    return attempts.pop(), tuple(part for _, part in found)


def result_of(record: JobRecord, handles: Sequence[HandleRecord], spool: Spool, trail: Trail) -> ImageResult:
    """The result of a job that has succeeded, with its images from the spool; `trail` is what its attempts cost by now.

    Raises:
        ResultExpired: The spool does not hold them any more. They are never made anew by this.
    """
    told = record.result
    stored = [spool.find(image["sha256"]) for image in told["images"]] if told else []
    if told is None or not stored or None in stored:
        raise ResultExpired(
            f"{record.job_id} succeeded, and its images are not in the spool any more; nothing was sent",
            provider=record.provider or "", model=record.model, job_id=record.job_id, maybe_charged=True,
            handle=_handle(handles),
        )  # fmt: skip
    images = tuple(
        ResultImage(
            media_type=image["media_type"],
            width=image["width"],
            height=image["height"],
            sha256=image["sha256"],
            source_url=None,
            expires_at=datetime.fromisoformat(image["expires_at"]) if image.get("expires_at") else None,
            stored=place,  # type: ignore[arg-type]  # none of them is None, as was seen above
        )
        for image, place in zip(told["images"], stored, strict=True)
    )
    return ImageResult(
        images=images,
        provider=told["provider"],
        adapter=told["adapter"],
        model=told["model"],
        mode=told["mode"],
        seed=told["seed"],
        prompt=told.get("prompt"),
        cost=_cost(told["cost"]),
        spent=trail.spent if trail.attempts else _cost(told["spent"]),
        adjustments=tuple(Adjustment.from_json(one) for one in told["adjustments"]),
        attempts=tuple(trail.attempts or (_attempt(one) for one in told["attempts"])),
        errors=tuple(_error(one, record) for one in told["errors"]),
        job=_handle(handles),
        job_id=record.job_id,
        timings=Timings(None, 0.0, 0.0),
    )


def surplus_of(record: JobRecord, events: Sequence[EventRecord]) -> JobRecord | None:
    """The job as if the last image that came after its end were its result; None where none came."""
    told = [json.loads(one.detail).get("result") for one in events if one.what == "surplus"] if record.surplus else []
    return replace(record, result=told[-1]) if told and told[-1] else None


def error_of(record: JobRecord, handles: Sequence[HandleRecord]) -> ProviderError:
    """The error of a job that has ended without an image, or of which nobody knows how it ended."""
    if record.error is None and is_ended(record.state) and not record.at_risk:
        word = "charged" if record.charged else "not charged"
        return OutcomeUnknown(
            f"no image of {record.job_id} is known, and it was resolved as {word}",
            provider=record.provider or "", model=record.model, job_id=record.job_id, maybe_charged=record.charged,
            handle=_handle(handles),
        )  # fmt: skip
    if record.state is JobState.UNKNOWN or record.error is None:
        told = record.error if record.error and record.error.get("kind") == Kind.OUTCOME_UNKNOWN else {}
        return OutcomeUnknown(
            f"{record.job_id} was sent, and no reply is known",
            provider=told.get("provider") or record.provider or "", model=told.get("model") or record.model,
            job_id=record.job_id, maybe_charged=True, handle=_handle(handles),
            advice=f"Look at the provider's own list; then `anykontext jobs resolve {record.job_id}`",
        )  # fmt: skip
    error = _error(record.error, record)
    if error.kind is Kind.OUTCOME_UNKNOWN and record.charged:
        error = OutcomeUnknown(
            f"{record.job_id} was sent, no reply is known, and it was resolved as charged",
            provider=error.provider, model=error.model, job_id=record.job_id, maybe_charged=True,
            advice="It is never sent again under its idempotency_key; use a new key to pay for another",
        )  # fmt: skip
    error.handle = _handle(handles)
    return error


def in_doubt(error: ProviderError) -> ProviderError:
    """The error of a job that ended without an image; where a submit of it was lost, nobody knows how it ended."""
    lost = [one for one in error.attempts if one.outcome == Kind.OUTCOME_UNKNOWN and one.maybe_charged]
    if not lost or error.kind in {Kind.OUTCOME_UNKNOWN, Kind.DEADLINE_EXCEEDED}:
        return error
    first = lost[0]
    doubt = OutcomeUnknown(
        f"a submit to {first.provider}/{first.model} was lost, and nobody knows whether it was accepted; another "
        f"attempt of the job ended: {error.message}",
        provider=first.provider, model=first.model, job_id=error.job_id, handle=error.handle, maybe_charged=True,
        advice=f"Look at the provider's own list; then `anykontext jobs resolve {error.job_id}`",
    )  # fmt: skip
    doubt.attempts, doubt.errors, doubt.__cause__ = error.attempts, (error,), error
    return doubt


def _error(told: Mapping[str, Any], record: JobRecord) -> ProviderError:
    kind = Kind(told.get("kind", Kind.PROTOCOL_ERROR))
    cls = ERROR_OF_KIND[kind]
    more: dict[str, Any] = {"stage": "unknown", "reasons": ()} if issubclass(cls, Moderated) else {}
    return cls(
        told.get("message", ""), provider=told.get("provider") or "", model=told.get("model") or record.model,
        http_status=told.get("http_status"), job_id=record.job_id, maybe_charged=bool(told.get("maybe_charged")),
        **more,
    )  # fmt: skip


def _handle(handles: Sequence[HandleRecord]) -> JobHandle | None:
    found = latest_handles(handles)
    return found[-1][1] if found else None


def _cost(told: Mapping[str, Any]) -> Cost:
    amount = told["amount"]
    return Cost(None if amount is None else Decimal(amount), told["currency"], told["basis"])


def _attempt(told: Mapping[str, Any]) -> Attempt:
    return Attempt(told["provider"], told["model"], told["outcome"], told["maybe_charged"], told["seconds"])
