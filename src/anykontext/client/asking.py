"""Which attempts of a job may still give an image, by what the ledger knows; and how they are asked for together."""

from collections.abc import Callable, Sequence
from functools import partial

from anykontext.client.past import latest_handles
from anykontext.engine.attempt import Started
from anykontext.engine.effects import All, Flow
from anykontext.engine.ends import Ended
from anykontext.engine.job import wait_for
from anykontext.engine.trail import Trail, total
from anykontext.engine.watch import Watch
from anykontext.ledger import FINAL as FINAL_WORDS
from anykontext.ledger import HandleRecord, JobRecord, SendRecord, is_ended
from anykontext.model.errors import ConfigurationError, DeadlineExceeded, Kind, ProviderError
from anykontext.model.job import JobHandle, JobState
from anykontext.model.money import NOTHING, Cost
from anykontext.model.result import Attempt, ImageResult

FINAL = frozenset(map(Kind, FINAL_WORDS))
ANOTHER_S = 2.0  # when one attempt has given the image, the others are asked so much longer
Attempts = list[tuple[int, JobHandle, tuple[int, ...]]]


def to_ask(record: JobRecord, handles: Sequence[HandleRecord], sends: Sequence[SendRecord]) -> Attempts:
    """The attempts that may still give an image, each with those of its tasks that may.

    None of a job that has not ended may: then they are asked for their ends once more, so that it can end.
    """
    last = _last(sends)
    still = [one for one in handles if _may_give(record, last.get((one.attempt, one.part)))]
    return latest_handles(still if still or is_ended(record.state) else handles)


def _last(sends: Sequence[SendRecord]) -> dict[tuple[int, int], SendRecord]:
    return {(one.attempt, one.part): one for one in sends}  # a later submit of a part comes after the earlier


def _may_give(record: JobRecord, send: SendRecord | None) -> bool:
    if send is None:
        return True
    if send.resolved is not None or (send.kind is not None and Kind(send.kind) in FINAL):
        return False
    if send.kind is not None:
        return record.state is not JobState.SUCCEEDED or send.money == "risk"
    return send.ended_at is None or not is_ended(record.state)


def lost_parts(
    sends: Sequence[SendRecord], attempt: int, parts: Sequence[int], price: Cost = NOTHING
) -> tuple[Ended, ...]:
    """How the other parts of an attempt have ended, of which no image came; `price` is that of one image there."""
    found = []
    for (number, part), send in sorted(_last(sends).items()):
        if number != attempt or part in parts or send.basis is not None or _is_open(send):
            continue
        kind, message = _end_of(send)
        images = 1
        listed = send.listed or send.price
        if listed and price.amount:
            images = max(round(listed / price.amount), 1)
        found.append(Ended(kind, message, maybe_charged=send.money != "free", images=images))
    return tuple(found)


def trail_of(sends: Sequence[SendRecord], attempt: int | None = None) -> Trail:
    """What the ledger knows of the attempts of a job, without one of them."""
    trail = Trail()
    last = _last(sends)
    for number in sorted({one for one, _ in last} - {attempt}):
        parts = [send for (one, _), send in sorted(last.items()) if one == number]
        kept = [send for send in sends if send.attempt == number and send.money != "free"]
        told = min(parts, key=lambda send: (not _is_open(send), send.outcome == "accepted", send.money == "free"))
        kind, message = _end_of(told)
        well = any(send.basis is not None and send.kind is None for send in parts)
        seconds = max(send.ended_at or send.intent_at for send in parts) - min(send.intent_at for send in parts)
        word, message = ("succeeded", "") if well else (kind, message)
        trail.attempts.append(Attempt(told.provider, told.model, word, bool(kept), max(seconds, 0.0), message))
        if kept:
            trail.costs[len(trail.attempts) - 1] = total([_told_cost(send) for send in kept])
    return trail


def _told_cost(send: SendRecord) -> Cost:
    amount = send.price if send.basis is None else send.cost
    return Cost() if amount is None else Cost(amount, "USD", send.basis or "listed")  # type: ignore[arg-type]  # the ledger holds a basis


def _is_open(send: SendRecord) -> bool:
    return send.outcome == "accepted" and send.ended_at is None and send.resolved is None


def _end_of(send: SendRecord) -> tuple[Kind, str]:
    """What came of a submit that gave no image, as a kind and in words."""
    if send.resolved is not None:
        return Kind.GENERATION_FAILED, f"no image of it is known, and a person has called it {send.resolved}"
    if _is_open(send):
        return Kind.DEADLINE_EXCEEDED, "it was left while its task may still run"
    if send.kind is None:
        return Kind.OUTCOME_UNKNOWN, "it was sent, and no reply is known"
    return Kind(send.kind), send.message


def startable(attempts: Attempts, start: Callable[[JobHandle, int, tuple[int, ...]], Started]) -> list[Started]:
    """The attempts that can be asked for with what is configured here, the latest first.

    Raises:
        ConfigurationError: None of them can.
    """
    found, errors = list[Started](), list[ConfigurationError]()
    for attempt, handle, parts in reversed(attempts):
        try:
            found.append(start(handle, attempt, parts))
        except ConfigurationError as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return found


def wait_for_all(watch: Watch, attempts: Sequence[Started]) -> Flow[ImageResult | ProviderError]:
    """Follow several accepted attempts of a job at the same time: the image of the first, and all are collected."""
    if len(attempts) == 1:
        return (yield from wait_for(watch, attempts[0]))
    clocks = [watch.fork() for _ in attempts]
    flows = tuple(map(partial(_one_of, clocks), clocks, attempts))
    outcomes: list[ImageResult | ProviderError] = watch.see((yield All(flows)))
    came = [*zip(outcomes, clocks, strict=True)]
    images = [one for one, _ in sorted(came, key=lambda each: each[1].mono) if isinstance(one, ImageResult)]
    running = [one for one in outcomes if isinstance(one, DeadlineExceeded)]
    return next(iter([*images, *running, *outcomes]))


def _one_of(clocks: Sequence[Watch], clock: Watch, started: Started) -> Flow[ImageResult | ProviderError]:
    outcome = yield from wait_for(clock, started)
    if isinstance(outcome, ImageResult):
        for other in clocks:
            other.deadline_s = min(other.deadline_s, clock.seconds + ANOTHER_S)
    return outcome
