"""From a request to an accepted task: the part of a job that can cost money, sent once and only once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from anykontext.adapting import Balance, Checks, Effective, Fetch, Refused, Running, State, Succeeded, Task
from anykontext.engine.effects import Admit, All, Flow, NotAdmitted, Observed, Persist, Send, Sleep
from anykontext.engine.ends import Ended, ended_by, gravest, safely
from anykontext.engine.entries import Acceptance, Intent, Outcome, PartEnd
from anykontext.engine.money_table import Again, Happened, after_submit, understood
from anykontext.engine.pace import PATIENCE_S, repeat_after
from anykontext.engine.policy import Policy
from anykontext.engine.provider import Candidate
from anykontext.engine.renew import has_new_key
from anykontext.engine.signing import address
from anykontext.engine.upload import place_images
from anykontext.engine.watch import Watch
from anykontext.model.errors import Kind
from anykontext.model.events import Adjusted, Retrying, Submitted, Submitting
from anykontext.model.job import JobHandle, Mode
from anykontext.model.money import Cost
from anykontext.model.result import Adjustment

CHECK_S = 10.0
FIRST_REPEAT_S = 1.0  # after a refusal without Retry-After, F10


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate of a plan, with the request as it will get it.

    Attributes:
        candidate: The provider and model.
        orders: One for each task to be made: one, or several where the provider makes one image per task.
        adjustments: The differences between what was asked and what is sent.
        price: What the whole request is expected to cost there.
    """

    candidate: Candidate
    orders: tuple[Effective, ...]
    adjustments: tuple[Adjustment, ...]
    price: Cost

    def price_of(self, tasks: int, handle: JobHandle | None = None) -> Cost:
        """What so many of its tasks cost at most; `handle` names them all where a job was resumed without orders."""
        if tasks >= len(self.orders or (handle.tasks if handle else ())):
            return self.price
        mode = self.orders[0].mode if self.orders else handle.mode if handle else ""
        size = self.orders[0].size if self.orders else None
        return self.candidate.price(mode, size).times(tasks * self.candidate.provider.adapter.facts.images_per_task)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An attempt that a provider has accepted.

    Attributes:
        step: What was asked of whom.
        handle: Its handle; None at a provider that names no task.
        states: What the submits answered, in the order of the tasks that were accepted.
        refused: The ends of tasks that were not accepted, when others were.
        at_s: Seconds from the start of the job.
        parts: Which parts of the attempt were accepted, in the order of the states or tasks; empty for all.
    """

    step: Step
    handle: JobHandle | None
    states: tuple[State, ...]
    refused: tuple[Ended, ...]
    at_s: float
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Forbidden:
    """An attempt that may not be made: nothing of it was sent.

    Attributes:
        error: A cap has no room for it, the job is not this process's any more, or the ledger cannot be written.
    """

    error: Exception


def submit_attempt(watch: Watch, step: Step, policy: Policy, *, is_last: bool) -> Flow[Accepted | Ended | Forbidden]:
    """Submit every task of one candidate, at the same time where there are several.

    `is_last` says that no other candidate is left, so that a refusal is worth some seconds of patience.
    """
    candidate = watch.candidate = step.candidate
    for adjustment in step.adjustments:
        watch.see((yield watch.emit(Adjusted, adjustment=adjustment)))
    patience_s = watch.unpaid_left_s if is_last or policy.waits_when_full else 0.0
    refused = watch.see((yield Admit(candidate, len(step.orders), patience_s, policy.heeds)))
    if isinstance(refused, NotAdmitted):
        return Ended(refused.kind, refused.message, maybe_charged=False, skipped=refused)
    orders = yield from place_images(watch, candidate.provider, step.orders, is_last=is_last)
    if isinstance(orders, Ended):
        watch.see((yield Observed(candidate, orders.kind)))
        return orders
    if watch.unpaid_left_s <= 0:
        return _too_late(watch)
    for order in orders:  # an adapter that cannot write it says so before anything is kept or sent
        address(candidate.provider.adapter.submit(order), candidate.provider)
    forbidden = watch.see((yield Persist(_intent(watch, step, policy, range(len(orders))))))
    if forbidden is not None:
        return Forbidden(forbidden)
    watch.see((yield watch.emit(Submitting, tasks=len(orders))))
    if len(orders) == 1:
        outcomes = [(yield from _submit_part(watch, step, 0, orders[0], policy, is_last=is_last))]
    else:
        flows = tuple(
            safely(_submit_part(watch.fork(), step, part, order, policy, is_last=is_last))
            for part, order in enumerate(orders)
        )
        outcomes = watch.see((yield All(flows)))
    outcome = yield from _sum_up(watch, step, outcomes)
    ended = outcome if isinstance(outcome, Ended) else None
    everywhere = ended is not None and ended.http_status is None
    watch.see((yield Observed(candidate, ended.kind if ended else None, everywhere)))
    return outcome


def _sum_up(watch: Watch, step: Step, outcomes: list[State | Ended]) -> Flow[Accepted | Ended]:
    outcomes = [
        replace(one, images=order.num_images) if isinstance(one, Ended) else one
        for one, order in zip(_once_each(outcomes), step.orders, strict=True)
    ]
    states = tuple(one for one in outcomes if not isinstance(one, Ended))
    refused = tuple(one for one in outcomes if isinstance(one, Ended))
    if not states:
        return gravest(refused)
    parts = tuple(part for part, one in enumerate(outcomes) if not isinstance(one, Ended))
    handle = _handle(watch, step, *(task for task in map(task_of, states) if task))
    if handle is not None:
        watch.see((yield watch.emit(Submitted, handle=handle)))
    return Accepted(step, handle, states, refused, watch.seconds, parts)


def _handle(watch: Watch, step: Step, *tasks: Task) -> JobHandle | None:
    """What names these tasks; None where there are none."""
    candidate = step.candidate
    return (
        JobHandle(
            job_id=watch.job_id,
            provider=candidate.provider.name,
            adapter=candidate.provider.adapter.facts.name,
            model=candidate.model,
            mode=step.orders[0].mode,
            tasks=tasks,
            adjustments=step.adjustments,
            created_at=watch.wall.isoformat(timespec="seconds"),
        )
        if tasks
        else None
    )


def _intent(watch: Watch, step: Step, policy: Policy, parts: Iterable[int]) -> Intent:
    orders = {part: step.orders[part] for part in parts}
    prices = {part: step.candidate.price(one.mode, one.size).times(one.num_images) for part, one in orders.items()}
    amounts = {part: one.usd for part, one in prices.items()}
    return Intent(watch.job_id, watch.attempt, step.candidate, amounts, policy.caps)


def _once_each(outcomes: list[State | Ended]) -> list[State | Ended]:
    """The same outcomes, where a task that was named before is one whose own name we do not know (F19)."""
    seen: set[str] = set()
    unique: list[State | Ended] = []
    for one in outcomes:
        task = None if isinstance(one, Ended) else task_of(one)
        if task is not None and task.id in seen:
            unique.append(
                Ended(Kind.OUTCOME_UNKNOWN, f"two submits were answered with one task {task.id}", maybe_charged=True)
            )
            continue
        if task is not None:
            seen.add(task.id)
        unique.append(one)
    return unique


def _submit_part(
    watch: Watch, step: Step, part: int, order: Effective, policy: Policy, *, is_last: bool
) -> Flow[State | Ended]:
    """Send one submit. It is sent again only after an end that the money table calls surely not accepted."""
    candidate = step.candidate
    adapter, provider = candidate.provider.adapter, candidate.provider
    waited, troubles, renewed = 0.0, 0, False
    while True:
        start_s = watch.left_s if policy.waits else None
        call = adapter.submit(replace(order, start_within_s=start_s, fails_fast=not is_last))
        way = address(call, provider)
        within_s = max(watch.paid_left_s, 0.0) + policy.submit_grace_s
        heard = watch.see((yield Send(call, provider, way, within_s, policy.submit_grace_s)))
        state = understood(adapter, heard, None)
        if isinstance(state, Refused) and state.kind is Kind.OUT_OF_CREDIT and adapter.facts.busy_as_out_of_credit:
            state = yield from _confirmed(watch, candidate, state, order.mode)
        row = after_submit(heard, state, adapter.facts, at_home=provider.at_home)
        if row is None:
            assert state is not None
            task = task_of(state)
            handle = _handle(watch, step, task) if task else None
            watch.see((yield Persist(Acceptance(watch.job_id, watch.attempt, part, handle))))
            return state
        end = ended_by(row, heard, state)
        watch.see((yield Persist(_part_end(watch, part, end))))
        if row.happened is Happened.REFUSED and not renewed and (yield from has_new_key(watch, provider, state)):
            renewed = True
            watch.see((yield watch.emit(Retrying, purpose="submit", reason=f"{end.message}: a new key", wait_s=0.0)))
            if watch.unpaid_left_s <= 0 or watch.see((yield Persist(_intent(watch, step, policy, [part])))) is not None:
                return end
            continue
        troubles += 1
        pause = repeat_after(watch, troubles, end.retry_after, first_s=FIRST_REPEAT_S)
        patient = is_last or row.happened is Happened.RATE_LIMITED
        waited += pause
        if row.again is not Again.SHORTLY or not patient or waited > PATIENCE_S or pause >= watch.unpaid_left_s:
            return end
        watch.see((yield watch.emit(Retrying, purpose="submit", reason=end.message, wait_s=pause)))
        watch.see((yield Sleep(pause)))
        if watch.unpaid_left_s <= 0 or watch.see((yield Persist(_intent(watch, step, policy, [part])))) is not None:
            return end


def _part_end(watch: Watch, part: int, end: Ended) -> PartEnd:
    unknown = end.maybe_charged and end.kind is Kind.OUTCOME_UNKNOWN
    outcome: Outcome = "unknown" if unknown else "accepted" if end.maybe_charged else "refused"
    return PartEnd(watch.job_id, watch.attempt, part, outcome, end.kind, end.message, end.maybe_charged)


def _confirmed(watch: Watch, candidate: Candidate, refused: Refused, mode: Mode) -> Flow[Refused]:
    """Whether the credit has really run out, where the provider says so when it is busy, too (quirk bfl-10)."""
    adapter, provider = candidate.provider.adapter, candidate.provider
    if not isinstance(adapter, Checks) or watch.unpaid_left_s <= 0:
        return refused
    call = adapter.check()
    heard = watch.see((yield Send(call, provider, address(call, provider), min(watch.unpaid_left_s, CHECK_S))))
    balance = understood(adapter, heard, None)
    price = candidate.price(mode).usd
    if not isinstance(balance, Balance) or balance.usd is None or price is None or balance.usd < price:
        return refused
    message = f"{refused.message}, although {balance.amount} {balance.unit} are left: it is busy"
    return replace(refused, kind=Kind.RATE_LIMITED, message=message)


def _too_late(watch: Watch) -> Ended:
    message = f"{watch.limit} passed before anything was sent"
    return Ended(Kind.DEADLINE_EXCEEDED, message, maybe_charged=False, advice="Send it again with a longer deadline")


def task_of(state: State) -> Task | None:
    """The task that a state tells of, if any."""
    return state.task if isinstance(state, Running | Fetch | Succeeded) else None
