import pickle
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.adapting import Kind, Purpose
from anykontext.engine.attempt import Started
from anykontext.engine.effects import Loss, Release
from anykontext.engine.job import run_job, start_job, wait_for
from anykontext.engine.policy import FAILOVER_ON, Policy
from anykontext.model.errors import (
    AllCandidatesFailed,
    AuthenticationFailed,
    Moderated,
    OutcomeUnknown,
    OutOfCredit,
    ProviderError,
    RequestRejected,
    Unavailable,
)
from anykontext.model.events import FailingOver, Finished
from anykontext.model.job import JobState
from anykontext.model.result import ImageResult

OVERLOADED = (503, {"detail": "overloaded"})
NO_CREDIT = (402, {"detail": "Insufficient credits"})
REJECTED = (422, {"detail": "no"})
GOING_ON = Policy(on_maybe_charged="continue")


def no_credit(lab: SimpleNamespace) -> list[Any]:
    """A 402, and the balance that is then asked for (bfl-10)."""
    return [lab.said(*NO_CREDIT), lab.said(200, {"credits": 0.5})]


def steps(lab: SimpleNamespace, *names: str, **more: Any) -> list[Any]:
    return [lab.step(lab.candidate(name, **more)) for name in names or ("a", "b")]


def run(lab: SimpleNamespace, world: Any, plan: Any = None, policy: Policy | None = None, deadline: float = 60) -> Any:
    return world.run(run_job(world.watch(deadline), plan or steps(lab), policy or Policy()))


@pytest.mark.parametrize(
    ("status", "body"), [OVERLOADED, NO_CREDIT, (429, {"detail": "x"})], ids=["unavailable", "credit", "rate"]
)
def test_a_sure_refusal_that_passes_goes_on_to_the_next_candidate(lab: SimpleNamespace, status: int, body: Any) -> None:
    refusals = 3 if status == 429 else 1
    world = lab.World([lab.said(status, body)] * refusals + [lab.accepted()], then=lab.ready())

    result = run(lab, world)

    assert isinstance(result, ImageResult)
    assert "b" == result.provider
    assert ["b"] == [one.provider.name for one in world.submits[-1:]]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(403, {"detail": "no key"}, AuthenticationFailed), (*REJECTED, RequestRejected)],
    ids=["key", "rejected"],
)
def test_a_kind_that_stops_the_route_is_raised_as_itself(
    lab: SimpleNamespace, status: int, body: Any, error: type[ProviderError]
) -> None:
    world = lab.World([lab.said(status, body)])

    found = run(lab, world)

    assert error is type(found)
    assert ["a"] == [one.provider for one in found.attempts]


def test_a_failed_task_goes_on_to_the_next_candidate(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Error"), lab.accepted("two")], then=lab.ready())

    result = run(lab, world)

    assert ["generation_failed", "succeeded"] == [one.outcome for one in result.attempts]
    assert [Kind.GENERATION_FAILED] == [one.kind for one in world.events(FailingOver)]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("charged", [True, False])
def test_the_policy_decides_by_kind_and_money(kind: Kind, charged: bool) -> None:
    careful, daring = Policy(), Policy(on_maybe_charged="continue", on_moderated="continue")
    always_paid = {Kind.OUTCOME_UNKNOWN, Kind.DEADLINE_EXCEEDED}

    unsent = kind is Kind.DEADLINE_EXCEEDED  # a share that was used up before anything was sent
    assert (not charged and (kind in FAILOVER_ON or unsent)) == careful.goes_on_after(kind, maybe_charged=charged)
    may_go_on = kind in FAILOVER_ON or kind in always_paid or kind is Kind.MODERATED
    assert may_go_on == daring.goes_on_after(kind, maybe_charged=charged)


def test_moderation_is_not_shopped_around_even_when_failover_on_lists_it() -> None:
    assert not Policy(failover_on=frozenset(Kind)).goes_on_after(Kind.MODERATED, maybe_charged=False)


@pytest.mark.parametrize("word", ["Request Moderated", "Content Moderated"])
def test_a_refused_prompt_is_not_shopped_around(lab: SimpleNamespace, word: str) -> None:
    world = lab.World([lab.accepted(), lab.status(word)])

    error = run(lab, world, policy=GOING_ON)

    assert isinstance(error, Moderated)
    assert (1, False) == (len(world.submits), error.maybe_charged)
    assert [JobState.MODERATED] == [one.state for one in world.events(Finished)]


def test_a_refused_prompt_goes_on_only_by_the_callers_choice(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Request Moderated"), lab.accepted("two")], then=lab.ready())

    result = run(lab, world, policy=Policy(on_moderated="continue"))

    assert ["moderated", "succeeded"] == [one.outcome for one in result.attempts]


def test_a_submit_that_may_be_charged_stops_the_route(lab: SimpleNamespace) -> None:
    for unknown in (lab.lost(Loss.AFTER_SENDING), lab.said(502, "<html>"), lab.said(200, "<html>")):
        world = lab.World([unknown])

        error = run(lab, world)

        assert isinstance(error, OutcomeUnknown)
        assert (1, True, False) == (len(world.submits), error.maybe_charged, error.retryable)


def test_it_goes_on_after_money_at_risk_only_by_the_callers_choice_and_counts_it(lab: SimpleNamespace) -> None:
    world = lab.World([lab.lost(Loss.AFTER_SENDING), lab.accepted()], then=lab.ready(cost=4.0))

    result = run(lab, world, policy=GOING_ON)

    assert [("outcome_unknown", True), ("succeeded", True)] == [
        (one.outcome, one.maybe_charged) for one in result.attempts
    ]
    assert (Decimal("0.04"), "reported") == (result.cost.amount, result.cost.basis)
    assert (Decimal("0.08"), "listed") == (result.spent.amount, result.spent.basis)


def test_an_unknown_price_at_risk_stays_unknown(lab: SimpleNamespace) -> None:
    plan = [*steps(lab, "a", price=None), *steps(lab, "b")]
    world = lab.World([lab.lost(Loss.AFTER_SENDING), lab.accepted()], then=lab.ready(cost=4.0))

    result = run(lab, world, plan, GOING_ON)

    assert (Decimal("0.04"), None) == (result.cost.amount, result.spent.amount)


def test_a_free_failure_costs_nothing_even_at_an_unknown_price(lab: SimpleNamespace) -> None:
    plan = [*steps(lab, "a", price=None), *steps(lab, "b")]
    world = lab.World([lab.said(*OVERLOADED), lab.accepted()], then=lab.ready())

    result = run(lab, world, plan)

    assert Decimal("0.04") == result.spent.amount


def test_when_every_candidate_failed_the_fields_are_those_of_the_last(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*OVERLOADED), *no_credit(lab)])

    error = run(lab, world)

    assert isinstance(error, AllCandidatesFailed)
    assert (Kind.OUT_OF_CREDIT, "b", 402, False) == (
        *(error.kind, error.provider),
        *(error.http_status, error.maybe_charged),
    )
    assert [Unavailable, OutOfCredit] == [type(one) for one in error.errors]
    assert ["unavailable", "out_of_credit"] == [one.outcome for one in error.attempts]
    assert "a/flux-kontext-pro: unavailable" in str(error)
    assert "Insufficient credits" in str(error)


def test_with_one_candidate_tried_its_own_error_is_raised(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(*OVERLOADED))

    error = run(lab, world, steps(lab, "a"))

    assert Unavailable is type(error)
    assert 1 == len(error.attempts)


def test_a_last_kind_that_stops_is_raised_as_itself_with_all_attempts(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*OVERLOADED), lab.said(*REJECTED)])

    error = run(lab, world)

    assert RequestRejected is type(error)
    assert ["a", "b"] == [one.provider for one in error.attempts]
    assert 2 == len(error.errors)


def test_money_at_risk_of_an_earlier_attempt_is_on_the_last_error(lab: SimpleNamespace) -> None:
    world = lab.World([lab.lost(Loss.AFTER_SENDING), *no_credit(lab)])

    error = run(lab, world, policy=GOING_ON)

    assert isinstance(error, AllCandidatesFailed)
    assert (True, False) == (error.maybe_charged, error.retryable)
    assert [True, False] == [one.maybe_charged for one in error.attempts]
    assert [JobState.UNKNOWN] == [one.state for one in world.events(Finished)]


def test_candidates_share_one_deadline(lab: SimpleNamespace) -> None:
    slow = [lab.accepted("one"), *[lab.status("Pending")] * 4, lab.status("Error")]
    world = lab.World([*slow, lab.accepted("two")], then=lab.status("Pending"), send_s=2.0)

    error = run(lab, world, deadline=30)

    assert Kind.DEADLINE_EXCEEDED is error.kind
    assert world.seconds == pytest.approx(30, abs=1)
    assert "b" == error.handle.provider


def test_no_candidate_is_tried_after_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(*OVERLOADED), send_s=40.0)

    error = run(lab, world, steps(lab, "a", "b", "c"), deadline=60)

    assert Unavailable is type(error)
    assert ["a", "b"] == [one.provider for one in error.attempts]


def test_each_candidate_gets_its_own_negotiated_body(lab: SimpleNamespace) -> None:
    plan = [
        lab.step(lab.candidate("a", "flux-kontext-pro"), aspect_ratio="16:9"),
        lab.step(lab.candidate("b", "flux-1.1-pro"), aspect_ratio="16:9"),
    ]
    world = lab.World([lab.said(*OVERLOADED), lab.accepted()], then=lab.ready())

    run(lab, world, plan)

    first, second = (bytes(send.call.body) for send in world.submits)
    assert b'"aspect_ratio":"16:9"' in first
    assert b"aspect_ratio" not in second
    assert b'"width":' in second


def test_the_key_of_one_provider_is_never_used_for_another(lab: SimpleNamespace) -> None:
    plan = [
        *steps(lab, "a", origins={"api": "https://api.eu.bfl.ai"}),
        *steps(lab, "b", origins={"api": "https://proxy.example"}),
    ]
    world = lab.World([lab.said(*OVERLOADED), lab.accepted()], then=lab.ready())

    run(lab, world, plan)

    assert [("a", "https://api.eu.bfl.ai/v1/flux-kontext-pro"), ("b", "https://proxy.example/v1/flux-kontext-pro")] == [
        (send.provider.name, send.address.url) for send in world.submits
    ]


def test_places_are_given_back_before_the_next_candidate(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Error"), lab.said(*OVERLOADED), lab.accepted()], then=lab.ready())

    run(lab, world, steps(lab, "a", "b", "c"))

    assert ["a", "b", "c"] == [one.candidate.provider.name for one in world.all_of(Release)]


def test_attempts_know_how_long_they_took(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*OVERLOADED), lab.accepted()], then=lab.ready(), send_s=1.0)

    result = run(lab, world)

    first, second = result.attempts
    assert 1.0 == first.seconds
    assert first.seconds + second.seconds == pytest.approx(result.timings.total)
    assert 0 < result.timings.submitted < result.timings.ready < result.timings.total


def test_submit_returns_when_a_provider_has_accepted_and_waiting_never_goes_elsewhere(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*OVERLOADED), lab.accepted(), lab.status("Error")])

    started = world.run(start_job(world.watch(), steps(lab, "a", "b", "c"), Policy()))
    assert isinstance(started, Started)
    error = world.run(wait_for(world.watch(), started))

    assert Kind.GENERATION_FAILED is error.kind
    assert ["unavailable", "generation_failed"] == [one.outcome for one in error.attempts]
    assert len(world.submits) == 2


def test_the_error_of_a_job_can_cross_a_process_border(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*OVERLOADED), *no_credit(lab)])

    error = run(lab, world)
    again = pickle.loads(pickle.dumps(error))

    assert (str(error), error.attempts, error.kind) == (str(again), again.attempts, again.kind)


ANSWERS = st.sampled_from(
    [
        *[("submit", one) for one in (OVERLOADED, NO_CREDIT, REJECTED, (502, "<html>"), (200, "<html>"), (200, "ok"))],
        *[("submit", one) for one in ((429, {"detail": "x"}), (403, {"detail": "x"}), Loss.AFTER_SENDING)],
        *[("submit", one) for one in (Loss.NOT_CONNECTED, Loss.CERTIFICATE)],
        *[("poll", one) for one in ("Pending", "Ready", "Error", "Request Moderated", "Odd", "Task not found")],
        *[("poll", one) for one in (Loss.AFTER_SENDING, Loss.CERTIFICATE, Loss.TOO_LARGE, Loss.FORBIDDEN)],
        *[("poll", one) for one in ((502, "<html>"), (200, "<html>"), (429, "x"), (403, {"detail": "x"}))],
    ]
)


@settings(max_examples=250, deadline=None)
@given(
    answers=st.lists(ANSWERS, max_size=30),
    count=st.integers(1, 3),
    deadline=st.sampled_from([0.2, 5.0, 60.0]),
    send_s=st.sampled_from([0.0, 0.1, 3.0, 100.0]),
    jitter=st.floats(0, 1),
    daring=st.booleans(),
)
def test_whatever_providers_answer_a_job_ends_in_time_and_no_order_is_paid_twice(
    lab: SimpleNamespace, answers: Any, count: int, deadline: float, send_s: float, jitter: float, daring: bool
) -> None:
    submits = [one for what, one in answers if what == "submit"]
    polls = [one for what, one in answers if what == "poll"]
    accepted: list[str] = []
    uncertain: list[str] = []

    def answer(send: Any) -> Any:
        if send.call.purpose is Purpose.SUBMIT:
            told = submits.pop(0) if submits else (200, "ok")
            if told == (200, "ok"):
                accepted.append(send.provider.name)
                return lab.accepted(f"task{len(accepted)}")
            if told in ((502, "<html>"), (200, "<html>"), Loss.AFTER_SENDING):
                uncertain.append(send.provider.name)
        else:
            told = polls.pop(0) if polls else "Pending"
        if isinstance(told, Loss):
            return lab.lost(told)
        if isinstance(told, str):
            return lab.ready() if told == "Ready" else lab.status(told)
        return lab.said(*told)

    class Endless(list):  # type: ignore[type-arg]
        def __bool__(self) -> bool:
            return True

        def pop(self, _index: int = 0) -> Any:
            return answer

    world = lab.World(send_s=send_s, jitter=jitter)
    world.script = Endless()
    policy = Policy(on_maybe_charged="continue") if daring else Policy()
    plan = [lab.step(lab.candidate(name), num_images=count) for name in ("a", "b")]

    outcome = run(lab, world, plan, policy, deadline)

    assert isinstance(outcome, ImageResult | ProviderError)
    grace_and_last_looks = policy.submit_grace_s + 5 + count
    assert world.seconds <= deadline + grace_and_last_looks
    for name in ("a", "b"):
        assert accepted.count(name) + uncertain.count(name) <= count
    if uncertain and not daring:
        assert set(accepted + uncertain) <= {uncertain[0], "a"}
        assert all(send.provider.name == "a" for send in world.submits) or uncertain[0] == "b"
    if uncertain and isinstance(outcome, ProviderError):
        assert outcome.maybe_charged
    assert len(world.effects) < 5_000
