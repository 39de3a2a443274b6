"""Several tasks under one handle and one deadline."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Kind, Output, Running, Succeeded, Task
from anykontext.engine.effects import All, Loss, Release
from anykontext.engine.ends import Ended, gravest
from anykontext.engine.job import run_job
from anykontext.engine.policy import Policy
from anykontext.model.errors import (
    DeadlineExceeded,
    Moderated,
    OutcomeUnknown,
    RateLimited,
    RequestRejected,
)
from anykontext.model.events import Submitted
from anykontext.model.result import ImageResult

REJECTED = (422, {"detail": "no"})
HTML = (502, "<html>Bad Gateway</html>")


def run(lab: SimpleNamespace, world: Any, count: int, *, steps: Any = None, policy: Policy | None = None) -> Any:
    steps = steps or [lab.step(num_images=count)]
    return world.run(run_job(world.watch(60), steps, policy or Policy()))


def test_n_images_are_n_submits_side_by_side_under_one_handle(lab: SimpleNamespace) -> None:
    submits = [lab.accepted("one"), lab.accepted("two"), lab.accepted("three")]
    world = lab.World(submits, then=lab.ready())

    result = run(lab, world, 3)

    assert isinstance(result, ImageResult)
    assert len(result.images) == 3
    assert ["one", "two", "three"] == [task.id for task in result.job.tasks]
    assert [3, 3] == [len(one.flows) for one in world.all_of(All)]
    assert len(world.events(Submitted)) == 1
    assert world.seconds < 2
    assert Decimal("0.12") == result.cost.amount


def test_partial_success_keeps_the_images_and_the_errors(lab: SimpleNamespace) -> None:
    flagged = lab.status("Content Moderated", details={"Moderation Reasons": ["NSFW"]})
    world = lab.World([lab.accepted("one"), lab.accepted("two"), lab.ready(), flagged])

    result = run(lab, world, 2)

    assert (1, 1) == (len(result.images), len(result.errors))
    assert isinstance(result.errors[0], Moderated)
    assert ("output", ("NSFW",)) == (result.errors[0].stage, result.errors[0].reasons)
    assert (Decimal("0.04"), Decimal("0.04")) == (result.cost.amount, result.spent.amount)


def test_one_unknown_submit_does_not_lose_the_accepted_ones(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted("one"), lab.lost(Loss.AFTER_SENDING), lab.accepted("three")], then=lab.ready())

    result = run(lab, world, 3)

    assert len(result.images) == 2
    assert [OutcomeUnknown] == [type(one) for one in result.errors]
    assert ["one", "three"] == [task.id for task in result.job.tasks]
    assert (Decimal("0.08"), Decimal("0.12")) == (result.cost.amount, result.spent.amount)
    assert len(world.submits) == 3


def test_the_gravest_end_speaks_when_nothing_was_accepted(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(*REJECTED), lab.lost(Loss.AFTER_SENDING), lab.said(*REJECTED)])

    error = run(lab, world, 3)

    assert isinstance(error, OutcomeUnknown)
    assert error.maybe_charged


def test_the_gravest_end_speaks_when_nothing_was_made(lab: SimpleNamespace) -> None:
    pending = lab.status("Pending")
    world = lab.World([lab.accepted("one"), lab.accepted("two"), lab.status("Error")], then=pending)

    error = run(lab, world, 2)

    assert isinstance(error, DeadlineExceeded)
    assert len(error.handle.tasks) == 2


def test_only_the_tasks_that_may_be_charged_are_money_at_risk(lab: SimpleNamespace) -> None:
    first, second = lab.step(lab.candidate("a"), num_images=3), lab.step(lab.candidate("b"), num_images=3)
    world = lab.World([lab.said(*REJECTED), lab.lost(Loss.AFTER_SENDING), lab.said(503, {"detail": "x"})])
    world.script += [lab.accepted(name) for name in ("one", "two", "three")]
    world.then = lab.ready()
    everything = frozenset({*Policy().failover_on, Kind.REQUEST_REJECTED})

    policy = Policy(on_maybe_charged="continue", failover_on=everything)
    result = run(lab, world, 3, steps=[first, second], policy=policy)

    assert (Decimal("0.12"), Decimal("0.16")) == (result.cost.amount, result.spent.amount)


def test_a_prompt_that_one_task_found_refused_is_not_shopped_around(lab: SimpleNamespace) -> None:
    moderated = lab.status("Request Moderated")
    steps = [lab.step(lab.candidate("a"), num_images=2), lab.step(lab.candidate("b"), num_images=2)]
    world = lab.World([lab.accepted("one"), lab.accepted("two"), lab.status("Error"), moderated])

    error = run(lab, world, 2, steps=steps)

    assert isinstance(error, Moderated)
    assert len(world.submits) == 2


def test_a_refused_prompt_is_not_shopped_around_even_where_money_at_risk_may_go_on(lab: SimpleNamespace) -> None:
    steps = [lab.step(lab.candidate("a"), num_images=2), lab.step(lab.candidate("b"), num_images=2)]
    world = lab.World([lab.accepted("one"), lab.accepted("two"), lab.status("Content Moderated")])
    world.then = lab.said(200, "<html>")

    error = run(lab, world, 2, steps=steps, policy=Policy(on_maybe_charged="continue", failover_on=frozenset(Kind)))

    assert len(world.submits) == 2
    assert error.maybe_charged


def test_a_task_that_forbids_going_on_is_heard_beside_one_that_allows_it(lab: SimpleNamespace) -> None:
    steps = [lab.step(lab.candidate("a"), num_images=2), lab.step(lab.candidate("b"), num_images=2)]
    world = lab.World([lab.said(429, {"detail": "busy"}, retry_after="60"), lab.said(*REJECTED)])

    error = run(lab, world, 2, steps=steps)

    assert isinstance(error, RequestRejected)
    assert len(world.submits) == 2


def test_all_tasks_refused_for_now_go_on_to_the_next_candidate(lab: SimpleNamespace) -> None:
    steps = [lab.step(lab.candidate("a"), num_images=2), lab.step(lab.candidate("b"), num_images=2)]
    world = lab.World([lab.said(503, {"detail": "x"})] * 2 + [lab.accepted("one"), lab.accepted("two")])
    world.then = lab.ready()

    result = run(lab, world, 2, steps=steps)

    assert (2, "b") == (len(result.images), result.provider)


def test_tasks_wait_under_one_deadline(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted("one"), lab.accepted("two")], then=lab.status("Pending"))

    error = run(lab, world, 2)

    assert isinstance(error, DeadlineExceeded)
    assert world.seconds == pytest.approx(60, abs=0.5)


def test_places_are_given_back_once_for_each_attempt(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted("one"), lab.accepted("two")], then=lab.ready())

    run(lab, world, 2)

    assert len(world.all_of(Release)) == 1


def test_errors_of_a_partial_success_of_all_rate_limited_siblings_name_the_wait(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted("one"), lab.said(429, {"detail": "x"}, retry_after="9"), lab.ready()])

    result = run(lab, world, 2)

    (error,) = result.errors
    assert isinstance(error, RateLimited)
    assert (9.0, False) == (error.retry_after, error.maybe_charged)


def end(kind: Kind, *, charged: bool = False) -> Ended:
    return Ended(kind, str(kind), maybe_charged=charged)


def test_gravest_is_what_may_be_charged_then_moderated_then_what_stops_then_the_first() -> None:
    unavailable, rejected = end(Kind.UNAVAILABLE), end(Kind.REQUEST_REJECTED)
    moderated, unknown = end(Kind.MODERATED), end(Kind.OUTCOME_UNKNOWN, charged=True)
    limited = end(Kind.RATE_LIMITED)

    order = [
        gravest([unavailable, rejected, moderated, unknown]),
        gravest([unavailable, rejected, moderated]),
        gravest([unavailable, rejected]),
        gravest([limited, unavailable]),
    ]

    assert [Kind.OUTCOME_UNKNOWN, Kind.MODERATED, Kind.REQUEST_REJECTED, Kind.RATE_LIMITED] == [x.kind for x in order]
    assert [4, 3, 2, 2] == [len(one.all) for one in order]


def test_gravest_of_what_already_speaks_for_several_holds_each_once() -> None:
    both = gravest([end(Kind.UNAVAILABLE), end(Kind.MODERATED)])

    every = gravest([both, end(Kind.OUTCOME_UNKNOWN, charged=True)])

    assert {Kind.OUTCOME_UNKNOWN, Kind.MODERATED, Kind.UNAVAILABLE} == {one.kind for one in every.all}
    assert all(one.also == () for one in every.also)


def test_what_is_reported_for_a_task_is_for_the_images_that_it_withheld_too(lab: SimpleNamespace) -> None:
    task = Task("one")
    done = Succeeded((Output("https://d.bfl.ai/1"),), task, cost_usd=Decimal("0.08"), flagged=("nudity",))
    adapter = lab.Toy({"accepted": Running(task, "queued"), "done": done}, images_per_task=2)
    world = lab.World([lab.said(200, b"accepted")], then=lab.said(200, b"done"))

    result = world.run(run_job(world.watch(), [lab.step(lab.candidate(adapter=adapter), num_images=2)], Policy()))

    assert ("0.08", "0.08") == (str(result.cost.amount), str(result.spent.amount))
    assert [Kind.MODERATED] == [one.kind for one in result.errors]


def test_images_that_were_asked_for_and_did_not_come_are_told(lab: SimpleNamespace) -> None:
    task = Task("one")
    done = Succeeded((Output("https://d.bfl.ai/1"),), task)
    adapter = lab.Toy({"accepted": Running(task, "queued"), "done": done}, images_per_task=4)
    world = lab.World([lab.said(200, b"accepted")], then=lab.said(200, b"done"))

    result = world.run(run_job(world.watch(), [lab.step(lab.candidate(adapter=adapter), num_images=3)], Policy()))

    assert ["3 images were asked for, and 1 came, without a word on the others"] == [e.message for e in result.errors]
    assert ("0.04", "0.12") == (str(result.cost.amount), str(result.spent.amount))


@pytest.mark.parametrize(
    ("units", "amount"), [(Decimal(2), "0.08"), (Decimal(0), "0.00"), (Decimal("1.5"), "0.060"), (None, "0.04")]
)
def test_units_that_the_provider_billed_are_counted_at_the_listed_price(
    lab: SimpleNamespace, units: Decimal | None, amount: str
) -> None:
    done = Succeeded((Output(lab.LINK),), Task("one"), units=units)
    toy = lab.candidate(adapter=lab.Toy({"accepted": Running(Task("one"), "Pending"), "done": done}))
    world = lab.World([lab.said(200, "accepted"), lab.said(200, "done")])

    result = run(lab, world, 1, steps=[lab.step(toy)])

    assert (Decimal(amount), "listed") == (result.cost.amount, result.cost.basis)


def test_a_withheld_image_that_is_in_the_billed_units_is_not_counted_twice(lab: SimpleNamespace) -> None:
    done = Succeeded((Output(lab.LINK),), Task("one"), units=Decimal(2), flagged=("NSFW",))
    toy = lab.candidate(adapter=lab.Toy({"accepted": Running(Task("one"), "Pending"), "done": done}, images_per_task=4))
    world = lab.World([lab.said(200, "accepted"), lab.said(200, "done")])

    result = run(lab, world, 2, steps=[lab.step(toy, num_images=2)])

    assert (Decimal("0.08"), Decimal("0.08")) == (result.cost.amount, result.spent.amount)
    assert isinstance(result.errors[0], Moderated)
