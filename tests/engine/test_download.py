from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Kind, Output, Succeeded, Task
from anykontext.engine.attempt import resumed
from anykontext.engine.effects import Download, Fault
from anykontext.engine.ends import Ended
from anykontext.engine.follow import Made, follow_task
from anykontext.engine.job import run_job, wait_for
from anykontext.engine.policy import Policy
from anykontext.model.errors import DeadlineExceeded, ProtocolError, ResultExpired
from anykontext.model.events import Downloading, Drift, Finished
from anykontext.model.job import JobHandle, JobState
from anykontext.model.result import ImageResult
from anykontext_bfl import Bfl

TASK = Task("one", "https://api.eu2.bfl.ai/v1/get_result?id=one")
HANDLE = JobHandle("job_1", "bfl", "bfl", "flux-kontext-pro", "edit", (TASK,))


def wait(lab: SimpleNamespace, world: Any, deadline_s: float = 60.0) -> Any:
    return world.run(wait_for(world.watch(deadline_s), resumed(lab.candidate(), HANDLE)))


def test_the_link_is_used_byte_for_byte_with_its_end(lab: SimpleNamespace) -> None:
    link = "https://bfldeliveryprodeu4.blob.core.windows.net/a%2Fb?se=2025-12-17T21%3A39%3A00Z&sig=F/c%2BC5%3D"
    world = lab.World([lab.ready(link)])

    wait(lab, world)

    (download,) = world.all_of(Download)
    assert link == download.url
    assert download.expires_at.isoformat() == "2025-12-17T21:39:00+00:00"


def test_f31_an_expired_link_is_renewed_by_one_poll(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready("https://d.bfl.ai/old"), lab.ready("https://d.bfl.ai/new")])
    world.downloads = [lab.fault(Fault.GONE, 403)]

    result = wait(lab, world)

    assert isinstance(result, ImageResult)
    assert ["https://d.bfl.ai/old", "https://d.bfl.ai/new"] == [one.url for one in world.all_of(Download)]
    assert len(world.polls) == 2


def test_f31_a_link_that_stays_expired_is_result_expired_with_the_handle(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.ready(), last_download=lab.fault(Fault.GONE, 403))

    error = wait(lab, world)

    assert isinstance(error, ResultExpired)
    assert (HANDLE, True, 403) == (error.handle, error.maybe_charged, error.http_status)
    assert (2, 2) == (len(world.polls), len(world.all_of(Download)))
    assert [JobState.EXPIRED] == [one.state for one in world.events(Finished)]


def test_f31_a_renewal_that_finds_the_task_gone_says_that(lab: SimpleNamespace) -> None:
    gone = lab.status("Task not found", 404)
    world = lab.World([lab.ready()], then=gone, last_download=lab.fault(Fault.GONE, 403))

    error = wait(lab, world)

    assert error.kind is Kind.JOB_NOT_FOUND


@pytest.mark.parametrize("times", [1, 3, 8])
def test_f29_a_lost_download_is_repeated(lab: SimpleNamespace, times: int) -> None:
    world = lab.World([lab.ready()], downloads=[lab.fault(Fault.LOST)] * times)

    result = wait(lab, world)

    assert isinstance(result, ImageResult)
    assert times + 1 == len(world.all_of(Download))
    assert len(world.polls) == 1


def test_f32_a_download_that_never_ends_is_deadline_exceeded_with_the_handle(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()], last_download=lab.fault(Fault.LOST), send_s=3.0)

    error = wait(lab, world)

    assert isinstance(error, DeadlineExceeded)
    assert (HANDLE, True) == (error.handle, error.maybe_charged)
    assert "while fetching the image" in str(error)
    assert world.seconds < 65


def test_f33_f36_f37_what_is_no_image_is_fetched_once_more_and_then_a_protocol_error(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()], last_download=lab.fault(Fault.BAD, 200))

    error = wait(lab, world)

    assert isinstance(error, ProtocolError)
    assert (HANDLE, True) == (error.handle, error.maybe_charged)
    assert len(world.all_of(Download)) == 2


def test_f30_a_torn_image_that_comes_whole_the_second_time_is_a_result(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()], downloads=[lab.fault(Fault.BAD)])

    assert isinstance(wait(lab, world), ImageResult)


def test_a_forbidden_link_is_not_tried_again(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()], last_download=lab.fault(Fault.FORBIDDEN))

    error = wait(lab, world)

    assert isinstance(error, ProtocolError)
    assert len(world.all_of(Download)) == 1


def test_f57_a_full_disk_leaves_a_handle_and_tells_what_to_do(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()], last_download=lab.fault(Fault.DISK))

    error = wait(lab, world)

    assert isinstance(error, ProtocolError)
    assert HANDLE == error.handle
    assert "Make room" in str(error)


def test_an_image_inside_the_reply_needs_no_link_and_is_not_fetched_twice(lab: SimpleNamespace) -> None:
    who = lab.candidate(adapter=lab.Toy({}))
    done = Succeeded((Output(base64="eA=="),))
    good, bad = lab.World(), lab.World(last_download=lab.fault(Fault.BAD))

    made = good.run(follow_task(good.watch(60, who), None, done))
    end = bad.run(follow_task(bad.watch(60, who), None, done))

    assert isinstance(made, Made)
    assert [(None, "eA==")] == [(one.url, one.base64) for one in good.all_of(Download)]
    assert (Kind.PROTOCOL_ERROR, 1) == (end.kind, len(bad.all_of(Download)))


def several(lab: SimpleNamespace) -> Any:
    """A candidate whose tasks may make several images."""

    class Several(Bfl):
        facts = replace(Bfl.facts, images_per_task=4)

    return lab.candidate(adapter=Several())


def test_more_images_and_units_than_a_task_can_have_made_are_neither_fetched_nor_counted(lab: SimpleNamespace) -> None:
    outputs = tuple(Output(f"https://x.example/{index}") for index in range(500))
    world = lab.World()

    made = world.run(follow_task(world.watch(60, several(lab)), TASK, Succeeded(outputs, TASK, units=Decimal(10**12))))

    assert len(made.images) == 4
    assert made.succeeded.units is None
    assert [("images", "500 of one task"), ("billed units", "1000000000000")] == [
        (one.what, one.word) for one in world.events(Drift)
    ]


def test_images_of_one_task_that_were_flagged_or_lost_stand_beside_those_that_were_made(lab: SimpleNamespace) -> None:
    done = Succeeded((Output("https://x.example/1"), Output("https://x.example/2")), TASK, flagged=("nudity",))
    world = lab.World(downloads=[lab.image("aa"), lab.fault(Fault.DISK)])

    made = world.run(follow_task(world.watch(60, several(lab)), TASK, done))

    assert ["aa"] == [one.sha256 for one in made.images]
    assert [Kind.PROTOCOL_ERROR, Kind.MODERATED] == [one.kind for one in made.ends]
    assert [2] == [one.count for one in world.events(Downloading)]


def test_an_image_that_was_fetched_is_kept_when_the_renewal_of_another_fails(lab: SimpleNamespace) -> None:
    outputs = (Output("https://x.example/1"), Output("https://x.example/2"))
    world = lab.World(then=lab.status("Pending"), downloads=[lab.image("aa"), lab.fault(Fault.GONE, 403)])

    made = world.run(follow_task(world.watch(9, several(lab)), TASK, Succeeded(outputs, TASK)))

    assert isinstance(made, Made)
    assert ["aa"] == [one.sha256 for one in made.images]
    assert [Kind.RESULT_EXPIRED] == [one.kind for one in made.ends]


def test_a_task_whose_images_were_all_flagged_is_moderated(lab: SimpleNamespace) -> None:
    world = lab.World()

    end = world.run(follow_task(world.watch(60, lab.candidate()), TASK, Succeeded((), TASK, flagged=("a", "b"))))

    assert isinstance(end, Ended)
    assert (Kind.MODERATED, "output", 2) == (end.kind, end.stage, len(end.all))


def test_a_ready_image_is_fetched_even_when_the_deadline_has_just_passed(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])
    world.send_s = 5.0

    result = wait(lab, world, deadline_s=0.5)

    assert isinstance(result, ImageResult)
    assert 1.0 == world.all_of(Download)[0].within_s


def test_the_result_tells_seed_prompt_and_the_settled_cost(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready(cost=7.000000000000001)])

    result = wait(lab, world)

    assert (42, "as rewritten") == (result.seed, result.prompt)
    assert (Decimal("0.07"), "reported") == (result.cost.amount, result.cost.basis)
    assert result.spent == result.cost


def test_without_a_reported_cost_the_listed_price_is_told(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])

    result = wait(lab, world)

    assert (Decimal("0.04"), "listed") == (result.cost.amount, result.cost.basis)


def test_the_raw_reply_is_kept_by_task_without_signatures(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])

    result = wait(lab, world)

    assert {"one"} == result.raw.keys()
    assert "sig=" not in repr(result.raw)
    assert "status" in result.raw["one"]


def test_f40_a_deep_reply_does_not_lose_a_paid_image(lab: SimpleNamespace) -> None:
    body = lab.ready().body[:-1] + b',"extra":' + b"[" * 900 + b"]" * 900 + b"}"
    world = lab.World([lab.said(200, body)])

    assert isinstance(wait(lab, world), ImageResult)


def test_f57_a_full_disk_here_is_no_reason_to_pay_another_provider(lab: SimpleNamespace) -> None:
    world = lab.World([lab.accepted()], then=lab.ready(), last_download=lab.fault(Fault.DISK))
    steps = [lab.step(lab.candidate("a")), lab.step(lab.candidate("b"))]

    error = world.run(run_job(world.watch(60), steps, Policy(on_maybe_charged="continue")))

    assert ["a"] == [one.provider for one in error.attempts]
    assert error.maybe_charged
    assert error.handle is not None
