"""What a candidate may use of the deadline, what comes after it, and what becomes of one that was left."""

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykontext.adapting import Failed, Kind, Purpose, Running, Task
from anykontext.engine.effects import Admit, Await, Detach, Loss, Persist
from anykontext.engine.entries import Intent, JobEnd, PartEnd
from anykontext.engine.job import run_job
from anykontext.engine.policy import FAILOVER_ON, Policy
from anykontext.engine.watch import Watch
from anykontext.model.errors import (
    AllCandidatesFailed,
    BudgetExceeded,
    DeadlineExceeded,
    ProviderError,
    RequestRejected,
)
from anykontext.model.events import Finished
from anykontext.model.job import JobState
from anykontext.model.money import Cap
from anykontext.model.result import ImageResult

SHARING = Policy(attempt_share=0.3, on_maybe_charged="continue")
REJECTED = (422, {"detail": "no"})
FAR_S = st.floats(0.1, 1e6)


def clock(deadline_s: float) -> Watch:
    return Watch("job_1", deadline_s, 0.0, 0.0, datetime(2026, 11, 20, tzinfo=UTC))


def steps(lab: SimpleNamespace, *names: str, **request: Any) -> list[Any]:
    return [lab.step(lab.candidate(name), **request) for name in names or ("a", "b")]


def run(lab: SimpleNamespace, world: Any, plan: Any = None, policy: Policy = SHARING, deadline: float = 60) -> Any:
    return world.run(run_job(world.watch(deadline), plan or steps(lab), policy))


def endless_first(lab: SimpleNamespace, *second: Any) -> list[Any]:
    """The task of `a` never ends; the others are told what is given, the last of it for ever."""
    replies = itertools.chain(second, itertools.repeat(second[-1] if second else None))

    def answer(send: Any) -> Any:
        if send.provider.name != "a":
            return next(replies)
        return lab.accepted("slow") if send.call.purpose is Purpose.SUBMIT else lab.status("Pending")

    return [answer] * 100


def job_ends(world: Any) -> list[tuple[int, JobState, bool]]:
    entries = [one.entry for one in world.all_of(Persist)]
    return [(one.attempt, one.state, one.aside) for one in entries if isinstance(one, JobEnd)]


# --- the rule


@given(
    deadline=FAR_S,
    share=st.floats(0.01, 1.0),
    tried=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
    leaves_paid=st.booleans(),
)
def test_shares_are_of_what_is_left_and_never_pass_the_deadline(
    deadline: float, share: float, tried: list[float], leaves_paid: bool
) -> None:
    watch, used = clock(deadline), 0.0
    for index, part in enumerate(tried):
        is_last = index + 1 == len(tried)
        left = watch.left_s
        watch.begin_attempt(share, is_last=is_last, leaves_paid=leaves_paid)

        assert watch.unpaid_left_s <= left
        assert watch.unpaid_left_s == pytest.approx(left if is_last else share * left, abs=1e-6 * deadline)
        assert watch.paid_left_s == (watch.unpaid_left_s if leaves_paid else left)
        used += part * max(watch.unpaid_left_s, 0.0)
        watch.mono += part * max(watch.unpaid_left_s, 0.0)

    assert used <= deadline * (1 + 1e-9)


@given(deadline=FAR_S, share=st.floats(0.01, 0.99))
def test_an_attempt_that_is_kept_has_all_that_is_left(deadline: float, share: float) -> None:
    watch = clock(deadline)
    watch.begin_attempt(share, is_last=False, leaves_paid=True)

    watch.keep_on()

    assert deadline == watch.paid_left_s == watch.unpaid_left_s


# --- what comes next

WAYS = [
    pytest.param(*way, id="-".join(map(str, way)))
    for way in itertools.product(
        sorted(set(Kind) - {Kind.OUTCOME_UNKNOWN, Kind.DEADLINE_EXCEEDED}),
        (False, True),
        ("listed", "not"),
        ("raise", "continue"),
        ("raise", "continue"),
    )
]


@pytest.mark.parametrize(("kind", "charged", "failover", "on_maybe_charged", "on_moderated"), WAYS)
def test_what_comes_after_a_task_that_failed(
    lab: SimpleNamespace, kind: Kind, charged: bool, failover: str, on_maybe_charged: Any, on_moderated: Any
) -> None:
    listed = frozenset({kind}) if failover == "listed" else frozenset(FAILOVER_ON - {kind})
    policy = Policy(failover_on=listed, on_maybe_charged=on_maybe_charged, on_moderated=on_moderated)
    toy = lab.Toy({"yes": Running(Task("one"), "on"), "no": Failed(kind, "no", maybe_charged=charged)})
    world = lab.World([lab.said(200, "yes"), lab.said(200, "no"), lab.accepted()], then=lab.ready())

    outcome = run(lab, world, [lab.step(lab.candidate("a", adapter=toy)), lab.step(lab.candidate("b"))], policy)

    allowed = on_moderated == "continue" if kind is Kind.MODERATED else failover == "listed"
    paid_for = on_maybe_charged == "continue" or not charged
    assert ["a", "b"] if allowed and paid_for else ["a"] == [one.provider.name for one in world.submits]
    assert isinstance(outcome, ImageResult if allowed and paid_for else ProviderError)


@pytest.mark.parametrize("on_maybe_charged", ["raise", "continue"])
@pytest.mark.parametrize("way", ["a lost submit", "a share that is used up"])
def test_doubt_is_gone_past_by_one_setting_whatever_else_is_set(
    lab: SimpleNamespace, way: str, on_maybe_charged: Any
) -> None:
    policy = Policy(failover_on=frozenset(), on_maybe_charged=on_maybe_charged, attempt_share=0.3)
    good = [lab.accepted(), lab.ready()]
    script = [lab.lost(Loss.AFTER_SENDING), *good] if way == "a lost submit" else endless_first(lab, *good)
    world = lab.World(script, then=lab.status("Pending"))

    run(lab, world, policy=policy)

    assert (2 if on_maybe_charged == "continue" else 1) == len(world.submits)


# --- while nothing is accepted


def test_a_share_that_is_used_up_before_anything_was_sent_goes_on_for_free(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.ready()])
    waits, perform = iter([20.0, 0.0]), world._perform

    def slowly(effect: Any) -> Any:
        world.mono += next(waits) if isinstance(effect, Admit) else 0.0
        return perform(effect)

    world._perform = slowly

    result = run(lab, world, policy=Policy(attempt_share=0.3))

    assert "b" == result.provider
    assert [("deadline_exceeded", False), ("succeeded", True)] == [
        (one.outcome, one.maybe_charged) for one in result.attempts
    ]
    assert "its share of the deadline of 60 s" in result.attempts[0].message


@pytest.mark.parametrize(("going_on", "within_s"), [("raise", 67.0), ("continue", 25.0)])
def test_a_submit_in_flight_is_waited_for_as_long_as_money_asks(
    lab: SimpleNamespace, going_on: Any, within_s: float
) -> None:
    world = lab.World([lab.lost(Loss.AFTER_SENDING)], then=lab.said(*REJECTED))

    run(lab, world, policy=Policy(attempt_share=0.3, on_maybe_charged=going_on, submit_grace_s=7))

    assert within_s == world.submits[0].within_s


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_the_question_after_a_402_and_the_wait_after_a_429_are_within_the_share(
    lab: SimpleNamespace, share: float
) -> None:
    broke = [lab.said(402, {"detail": "Insufficient credits"}), lab.said(200, {"credits": 0.5})]
    busy = [lab.said(429, {"detail": "x"}, retry_after="4")]
    for script in (broke, busy):
        world = lab.World([*script, lab.accepted()], then=lab.ready())

        run(lab, world, policy=Policy(attempt_share=share), deadline=5)

        checks = [one.within_s for one in world.sends if one.call.purpose is Purpose.CHECK]
        assert all(one <= 5 * share for one in checks)
        assert all(one <= 5 * share for one in world.sleeps[:1] if one > 1)


# --- once it is accepted


def test_a_task_that_runs_past_its_share_is_left_and_the_next_one_is_asked(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.accepted(), lab.ready()))

    result = run(lab, world)

    assert "b" == result.provider
    assert [("deadline_exceeded", True), ("succeeded", True)] == [
        (one.outcome, one.maybe_charged) for one in result.attempts
    ]
    assert (Decimal("0.04"), Decimal("0.08")) == (result.cost.amount, result.spent.amount)
    assert world.seconds == pytest.approx(18, abs=2)


def test_a_task_that_was_left_is_polled_for_long_and_its_success_is_written_down(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.accepted(), lab.ready()))
    run(lab, world)
    (left,) = world.all_of(Detach)
    later = lab.World([*[lab.status("Pending")] * 2000, lab.ready()])

    late = later.run(left.aside.flow)

    assert ["slow"] == [task.id for task in late.job.tasks]
    assert [(0, JobState.SUCCEEDED)] == [
        (one.entry.attempt, one.entry.state) for one in later.all_of(Persist) if isinstance(one.entry, JobEnd)
    ]


def test_a_share_never_ends_what_the_caller_does_not_let_us_leave(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab), then=lab.status("Pending"))

    error = run(lab, world, policy=Policy(attempt_share=0.3))

    assert isinstance(error, DeadlineExceeded)
    assert ["a"] == [one.provider.name for one in world.submits]
    assert [] == world.all_of(Detach)
    assert world.seconds == pytest.approx(60, abs=1)


def test_with_the_whole_deadline_used_up_no_other_candidate_is_paid(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab), then=lab.status("Pending"))

    error = run(lab, world, policy=Policy(on_maybe_charged="continue"))

    assert isinstance(error, DeadlineExceeded)
    assert 1 == len(world.submits)


def test_an_image_that_is_made_is_fetched_past_the_share(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()], then=lab.ready(), send_s=10.0)

    result = run(lab, world)

    assert "a" == result.provider
    assert world.seconds > 18
    assert 1 == len(world.submits)


def test_when_one_of_several_images_is_made_the_others_have_the_whole_deadline(lab: SimpleNamespace) -> None:
    def answer(send: Any) -> Any:
        if send.call.purpose is Purpose.SUBMIT:
            return lab.accepted(f"task{len(world.submits)}")
        return lab.ready() if send.address.url.endswith("task1") or world.seconds > 30 else lab.status("Pending")

    world = lab.World([answer] * 400)

    result = run(lab, world, steps(lab, num_images=2))

    assert ("a", 2) == (result.provider, len(result.images))


def test_a_poll_limit_leaves_a_task_that_may_run_to_be_followed_and_does_not_end_it_in_the_ledger(
    lab: SimpleNamespace,
) -> None:
    policy = Policy(failover_on=frozenset({Kind.PROTOCOL_ERROR}), on_maybe_charged="continue")

    def answer(send: Any) -> Any:
        if send.call.purpose is Purpose.SUBMIT:
            return lab.accepted(send.provider.name)
        return lab.ready() if send.provider.name == "b" else lab.said(200, "<html>")

    world = lab.World([answer] * 50)

    result = run(lab, world, policy=policy)

    assert ["protocol_error", "succeeded"] == [one.outcome for one in result.attempts]
    assert 1 == len(world.all_of(Detach))
    assert [1] == [one.entry.attempt for one in world.all_of(Persist) if isinstance(one.entry, PartEnd)]


def test_a_task_that_has_surely_ended_is_not_followed(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Error"), lab.accepted()], then=lab.ready())

    run(lab, world)

    assert [] == world.all_of(Detach)


# --- the image of an attempt that was left


def test_it_is_returned_when_the_next_candidate_fails(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.said(*REJECTED)), beside=[[*[lab.status("Pending")] * 5, lab.ready()]])

    result = run(lab, world)

    assert isinstance(result, ImageResult)
    assert [("a", "succeeded"), ("b", "request_rejected")] == [(one.provider, one.outcome) for one in result.attempts]
    assert Decimal("0.04") == result.spent.amount
    assert [JobState.SUCCEEDED] == [one.state for one in world.events(Finished)]
    assert [(0, JobState.SUCCEEDED, False)] == job_ends(world)


def test_what_was_put_at_risk_after_it_is_counted(lab: SimpleNamespace) -> None:
    world = lab.World(
        endless_first(lab, lab.lost(Loss.AFTER_SENDING)), beside=[[*[lab.status("Pending")] * 5, lab.ready()]]
    )

    result = run(lab, world)

    assert (Decimal("0.04"), Decimal("0.08")) == (result.cost.amount, result.spent.amount)


def test_it_is_returned_before_a_third_candidate_is_paid(lab: SimpleNamespace) -> None:
    replies = [lab.accepted(), *[lab.status("Pending")] * 3, lab.status("Error")]
    world = lab.World(endless_first(lab, *replies), beside=[[lab.ready()]])

    result = run(lab, world, steps(lab, "a", "b", "c"))

    assert "a" == result.provider
    assert ["a", "b"] == [one.provider.name for one in world.submits]


def test_when_it_fails_too_the_trail_tells_how(lab: SimpleNamespace) -> None:
    overloaded = lab.said(503, {"detail": "overloaded"})
    world = lab.World(endless_first(lab, overloaded), beside=[[lab.status("Error")]])

    error = run(lab, world)

    assert isinstance(error, AllCandidatesFailed)
    assert ["generation_failed", "unavailable"] == [one.outcome for one in error.attempts]
    assert [JobState.FAILED] == [one.entry.state for one in world.all_of(Persist) if isinstance(one.entry, JobEnd)]


def test_while_it_runs_the_job_has_not_ended_and_the_error_names_its_handle(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.said(*REJECTED)))

    error = run(lab, world)

    assert isinstance(error, DeadlineExceeded)
    assert ("a", True) == (error.handle.provider, error.maybe_charged)  # type: ignore[union-attr]
    assert ["deadline_exceeded", "request_rejected"] == [one.outcome for one in error.attempts]
    assert world.seconds == pytest.approx(60, abs=1)
    assert [JobState.RUNNING] == [one.state for one in world.events(Finished)]


def test_the_last_one_ends_the_job_that_nobody_waits_for_any_more(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.said(*REJECTED)))
    run(lab, world)
    (left,) = world.all_of(Detach)
    later = lab.World([lab.status("Error")])

    later.run(left.aside.flow)

    assert [(0, JobState.FAILED, False)] == job_ends(later)


def test_one_that_ends_while_the_next_is_tried_does_not_end_the_job(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab, lab.accepted()), then=lab.ready(), beside=[[lab.status("Error")]])

    run(lab, world)

    (beside,) = world.asides.values()
    assert [] == job_ends(beside)


@pytest.mark.parametrize(
    ("end", "outcome", "spent"), [("Error", "generation_failed", "0.04"), (None, "succeeded", "0.08")]
)
def test_a_result_tells_what_those_that_were_left_have_cost_by_then(
    lab: SimpleNamespace, end: str | None, outcome: str, spent: str
) -> None:
    def answer(send: Any) -> Any:
        if send.provider.name == "a":
            return lab.accepted("slow") if send.call.purpose is Purpose.SUBMIT else lab.status("Pending")
        return lab.accepted("quick") if send.call.purpose is Purpose.SUBMIT else lab.ready()

    late = lab.status(end) if end else lab.ready()
    world = lab.World([answer] * 100, beside=[[*[lab.status("Pending")] * 2, late]], send_s=1.0)

    result = run(lab, world)

    assert ("b", Decimal(spent)) == (result.provider, result.spent.amount)
    assert [outcome, "succeeded"] == [one.outcome for one in result.attempts]
    assert [end is None, True] == [one.maybe_charged for one in result.attempts]


def test_two_that_were_left_are_awaited_together(lab: SimpleNamespace) -> None:
    def answer(send: Any) -> Any:
        if send.call.purpose is Purpose.SUBMIT:
            return lab.accepted(send.provider.name) if send.provider.name != "c" else lab.said(*REJECTED)
        return lab.status("Pending")

    world = lab.World([answer] * 200, beside=[[*[lab.status("Pending")] * 60, lab.ready()], [lab.status("Error")]])

    result = run(lab, world, steps(lab, "a", "b", "c"))

    assert "a" == result.provider
    assert 2 == max(len(one.asides) for one in world.all_of(Await))
    assert ["succeeded", "generation_failed", "request_rejected"] == [one.outcome for one in result.attempts]


# --- what may not be sent


class Refusing:
    """A ledger that refuses intents from the second attempt on."""

    def __init__(self, world: Any) -> None:
        self.perform, self.error = world._perform, BudgetExceeded("of the daily budget 0.01 USD are left")
        world._perform = self

    def __call__(self, effect: Any) -> Any:
        told = self.perform(effect)
        forbidden = isinstance(effect, Persist) and isinstance(effect.entry, Intent) and effect.entry.attempt > 0
        return self.error if forbidden else told


def test_a_budget_that_is_used_up_midway_tells_what_was_tried_before(lab: SimpleNamespace) -> None:
    world = lab.World([lab.lost(Loss.AFTER_SENDING)])
    Refusing(world)

    with pytest.raises(BudgetExceeded) as caught:
        run(lab, world)

    error: Any = caught.value
    assert any("a/flux-kontext-pro was tried (outcome_unknown)" in note for note in error.__notes__)
    assert any("money may have been spent on job_1" in note for note in error.__notes__)
    assert (True, ["a"]) == (error.maybe_charged, [one.provider for one in error.attempts])
    assert [JobState.UNKNOWN] == [one.entry.state for one in world.all_of(Persist) if isinstance(one.entry, JobEnd)]


def test_a_budget_that_is_used_up_after_a_free_failure_says_that_nothing_was_spent(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(503, {"detail": "overloaded"})])
    Refusing(world)

    with pytest.raises(BudgetExceeded) as caught:
        run(lab, world)

    assert not caught.value.maybe_charged  # type: ignore[attr-defined]
    assert not any("money may have been spent" in note for note in caught.value.__notes__)
    assert [JobState.FAILED] == [one.entry.state for one in world.all_of(Persist) if isinstance(one.entry, JobEnd)]


def test_a_budget_that_is_used_up_midway_does_not_lose_an_image_that_is_on_its_way(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab), beside=[[lab.status("Pending"), lab.ready()]])
    Refusing(world)

    result = run(lab, world)

    assert "a" == result.provider


def test_with_an_attempt_still_running_a_budget_is_told_in_a_note(lab: SimpleNamespace) -> None:
    world = lab.World(endless_first(lab))
    Refusing(world)

    error = run(lab, world)

    assert isinstance(error, DeadlineExceeded)
    assert ["no other candidate was tried: of the daily budget 0.01 USD are left"] == error.__notes__


def test_only_a_submit_that_goes_on_at_risk_is_under_the_cap_on_it(lab: SimpleNamespace) -> None:
    daily, at_risk = Cap("daily", Decimal(9)), Cap("at risk", Decimal(1), at_risk_only=True)
    policy = Policy(on_maybe_charged="continue", caps=(daily,), at_risk_cap=at_risk)
    free, paid = lab.said(503, {"detail": "overloaded"}), lab.lost(Loss.AFTER_SENDING)
    world = lab.World([free, paid, lab.said(*REJECTED)])

    error = run(lab, world, steps(lab, "a", "b", "c"), policy)

    assert RequestRejected is type(error)
    assert [(daily,), (daily,), (daily, at_risk)] == [
        one.entry.caps for one in world.all_of(Persist) if isinstance(one.entry, Intent)
    ]
