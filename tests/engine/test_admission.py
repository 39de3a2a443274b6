"""Candidates that are passed over before anything is sent, and what the breaker is told of the others."""

from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Kind
from anykontext.engine.effects import Admit, Loss, NotAdmitted, Observed
from anykontext.engine.job import run_job, start_job
from anykontext.engine.policy import FAILOVER_ON, Policy
from anykontext.model.errors import AllCandidatesFailed, RateLimited
from anykontext.model.events import FailingOver
from anykontext.model.result import ImageResult

FULL = NotAdmitted(Kind.RATE_LIMITED, "full")
NO_CREDIT = (402, {"detail": "Insufficient credits"})


def out(since: float) -> NotAdmitted:
    return NotAdmitted(Kind.UNAVAILABLE, "passed over", since)


def run(lab: SimpleNamespace, world: Any, names: str = "ab", policy: Policy | None = None, flow: Any = run_job) -> Any:
    steps = [lab.step(lab.candidate(name)) for name in names]
    return world.run(flow(world.watch(60), steps, policy or Policy()))


def outcomes(found: Any) -> list[tuple[str, str]]:
    return [(one.provider, one.outcome) for one in found.attempts]


def observed(world: Any) -> list[tuple[Kind | None, bool]]:
    return [(one.kind, one.everywhere) for one in world.all_of(Observed)]


@pytest.mark.parametrize("why", [FULL, out(5.0)], ids=["full", "out"])
def test_a_candidate_that_takes_nothing_is_skipped_and_the_trail_says_why(
    lab: SimpleNamespace, why: NotAdmitted
) -> None:
    world = lab.World([lab.accepted()], then=lab.ready(), admits=[why])

    result = run(lab, world)

    assert isinstance(result, ImageResult)
    assert [("a", "skipped"), ("b", "succeeded")] == outcomes(result)
    assert (why.message, False) == (result.attempts[0].message, result.attempts[0].maybe_charged)
    assert [why.kind] == [one.kind for one in world.events(FailingOver)]
    assert ["b"] == [one.provider.name for one in world.submits]


def test_a_full_candidate_is_skipped_whatever_the_policy_passes_over(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()], then=lab.ready(), admits=[FULL])

    result = run(lab, world, policy=Policy(failover_on=frozenset()))

    assert "b" == result.provider


def test_when_every_candidate_is_out_the_one_that_was_first_is_tried(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()], then=lab.ready(), admits=[out(9.0), out(2.0), out(5.0)])

    result = run(lab, world, "abc")

    assert [("a", "skipped"), ("b", "skipped"), ("c", "skipped"), ("b", "succeeded")] == outcomes(result)
    assert [FAILOVER_ON] * 3 + [frozenset()] == [one.heeds for one in world.all_of(Admit)]


def test_a_last_resort_that_fails_is_the_end(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.lost(Loss.NOT_CONNECTED), admits=[out(9.0), out(2.0)])

    error = run(lab, world)

    assert isinstance(error, AllCandidatesFailed)
    assert [("a", "skipped"), ("b", "skipped"), ("b", "unavailable")] == outcomes(error)
    assert not error.maybe_charged


def test_a_last_resort_whose_task_fails_is_the_end(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Error")], admits=[out(9.0), out(2.0)])

    error = run(lab, world)

    assert [("a", "skipped"), ("b", "skipped"), ("b", "generation_failed")] == outcomes(error)


def test_what_is_out_is_not_tried_when_another_one_was(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(503, {"detail": "x"})] * 9, admits=[out(2.0)])

    error = run(lab, world)

    assert [("a", "skipped"), ("b", "unavailable")] == outcomes(error)


def test_all_that_are_full_or_drained_are_refused_with_nothing_sent(lab: SimpleNamespace) -> None:
    drained = NotAdmitted(Kind.UNAVAILABLE, "drained by me")
    world = lab.World(admits=[drained, FULL])

    error = run(lab, world, flow=start_job)

    assert ([("a", "skipped"), ("b", "skipped")], []) == (outcomes(error), world.sends)
    assert ["drained by me", "full"] == [one.message for one in error.attempts]
    assert isinstance(error, AllCandidatesFailed)
    assert isinstance(error.errors[1], RateLimited)


@pytest.mark.parametrize(
    ("names", "policy", "heeds"),
    [
        ("ab", Policy(), FAILOVER_ON),
        ("ab", Policy(failover_on=frozenset({Kind.OUT_OF_CREDIT})), frozenset({Kind.OUT_OF_CREDIT})),
        ("ab", Policy(breaker=False), frozenset()),
        ("a", Policy(), frozenset()),
    ],
    ids=["usual", "only some kinds", "switched off", "no other candidate"],
)
def test_an_outage_passes_over_what_the_policy_would_pass_over_after_it(
    lab: SimpleNamespace, names: str, policy: Policy, heeds: frozenset[Kind]
) -> None:
    world = lab.World([lab.accepted()], then=lab.ready())

    run(lab, world, names, policy)

    assert [heeds] == [one.heeds for one in world.all_of(Admit)]


@pytest.mark.parametrize(
    ("replies", "seen"),
    [
        (lambda lab: [lab.accepted()], [(None, False)]),
        (lambda lab: [lab.lost(Loss.NOT_CONNECTED)] * 9, [(Kind.UNAVAILABLE, True)]),
        (lambda lab: [lab.lost(Loss.AFTER_SENDING)], [(Kind.OUTCOME_UNKNOWN, True)]),
        (lambda lab: [lab.said(503, {"detail": "x"})] * 9, [(Kind.UNAVAILABLE, False)]),
        (lambda lab: [lab.said(422, {"detail": "x"})], [(Kind.REQUEST_REJECTED, False)]),
        (lambda lab: [lab.said(*NO_CREDIT), lab.said(200, {"credits": 0.0})], [(Kind.OUT_OF_CREDIT, False)]),
    ],
    ids=["accepted", "not connected", "lost", "503", "rejected", "no credit"],
)
def test_the_breaker_is_told_how_each_attempt_went_and_whether_anybody_answered(
    lab: SimpleNamespace, replies: Any, seen: list[tuple[Kind | None, bool]]
) -> None:
    world = lab.World(replies(lab))

    run(lab, world, "a", flow=start_job)

    assert seen == observed(world)


def test_the_parts_of_one_attempt_count_once(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.lost(Loss.NOT_CONNECTED))

    world.run(start_job(world.watch(60), [lab.step(num_images=3)], Policy()))

    assert [(Kind.UNAVAILABLE, True)] == observed(world)
    assert len(world.submits) > 3


def test_what_was_not_admitted_is_no_observation(lab: SimpleNamespace) -> None:
    world = lab.World(admits=[FULL])

    run(lab, world, "a", flow=start_job)

    assert [] == observed(world)


def test_a_task_that_ends_for_itself_says_nothing_more_of_its_provider(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted(), lab.status("Error")])

    run(lab, world, "a")

    assert [(None, False)] == observed(world)
