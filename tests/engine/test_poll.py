from types import SimpleNamespace
from typing import Any

import pytest

from anykontext.adapting import Fetch, Kind, Output, Purpose, Refused, Running, Succeeded, Task, get
from anykontext.engine.effects import Loss
from anykontext.engine.ends import Ended
from anykontext.engine.follow import Made, follow_task
from anykontext.model.events import Drift, Progress, Retrying
from anykontext.model.job import JobState
from anykontext_bfl import Bfl

POLL_URL = "https://api.eu2.bfl.ai/v1/get_result?id=one"
TASK = Task("one", POLL_URL)
HTML = "<html>Bad Gateway</html>"


def follow(lab: SimpleNamespace, world: Any, *, task: Task = TASK, deadline_s: float = 60.0, **who: Any) -> Any:
    return world.run(follow_task(world.watch(deadline_s, lab.candidate(**who)), task, None))


def test_the_first_poll_of_a_resumed_task_comes_at_once(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])

    outcome = follow(lab, world)

    assert isinstance(outcome, Made)
    assert [0.0] == world.sleeps


def test_after_a_submit_the_first_poll_waits_for_the_interval(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])

    world.run(follow_task(world.watch(60, lab.candidate(poll_interval_s=2.0)), TASK, Running(TASK, "Pending")))

    assert [2.0] == world.sleeps


def test_the_polling_url_is_used_verbatim_and_signed_on_a_host_of_the_provider(lab: SimpleNamespace) -> None:
    url = "https://api.us2.bfl.ai/v1/get_result?id=a%2Fb&x=%E2%9C%93"
    world = lab.World([lab.ready()])

    follow(lab, world, task=Task("one", url))

    assert [(url, True, False)] == [(one.address.url, one.address.signed, one.address.guarded) for one in world.polls]


def test_a_polling_url_of_a_stranger_is_polled_without_the_key_and_guarded(lab: SimpleNamespace) -> None:
    world = lab.World([lab.ready()])

    follow(lab, world, task=Task("one", "https://elsewhere.example/poll"))

    assert [(False, True)] == [(one.address.signed, one.address.guarded) for one in world.polls]


@pytest.mark.parametrize("url", ["ftp://bfl.ai/x", "javascript:alert(1)", "https://u:p@bfl.ai/x", "https://", "/v1/x"])
def test_a_polling_url_that_nothing_may_be_sent_to_ends_in_protocol_error_with_the_money_at_risk(
    lab: SimpleNamespace, url: str
) -> None:
    world = lab.World()

    end = follow(lab, world, task=Task("one", url))

    assert (Kind.PROTOCOL_ERROR, True, []) == (end.kind, end.maybe_charged, world.sends)


@pytest.mark.parametrize("times", [1, 5])
def test_f20_not_found_just_after_the_submit_is_tolerated(lab: SimpleNamespace, times: int) -> None:
    world = lab.World([lab.status("Task not found", 404)] * times, then=lab.ready())

    assert isinstance(follow(lab, world), Made)


def test_f21_not_found_for_good_is_job_not_found_and_nothing_is_submitted(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.status("Task not found", 404))

    end = follow(lab, world)

    assert (Kind.JOB_NOT_FOUND, True, 404) == (end.kind, end.maybe_charged, end.http_status)
    assert len(world.polls) == Bfl.facts.not_found_polls + 1
    assert [] == world.submits


@pytest.mark.parametrize("http", [200, 404, 422, 503])
def test_the_body_tells_the_status_whatever_the_http_code(lab: SimpleNamespace, http: int) -> None:
    failed = lab.status("Error", http, details={"error": "Invalid or corrupted image input"})
    done = lab.World([lab.status("Pending", http), lab.said(http, lab.ready().body.decode())])
    broken, unknown = lab.World([failed]), lab.World(then=lab.status("Task not found", http))

    made = follow(lab, done)
    end, lost = follow(lab, broken), follow(lab, unknown)

    assert isinstance(made, Made)
    assert (Kind.GENERATION_FAILED, "Invalid or corrupted image input", False) == (
        *(end.kind, end.message),
        end.maybe_charged,
    )
    assert lost.kind is Kind.JOB_NOT_FOUND


def test_f22_a_burst_of_5xx_is_outlasted(lab: SimpleNamespace) -> None:
    burst = [lab.said(502, HTML), lab.said(500, {"detail": "x"}), lab.said(503, HTML), lab.said(504, HTML)] * 4
    world = lab.World([*burst, lab.ready()])

    assert isinstance(follow(lab, world, deadline_s=200), Made)


def test_f22_lost_polls_are_repeated_until_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.lost(Loss.AFTER_SENDING))

    end = follow(lab, world)

    assert (Kind.DEADLINE_EXCEEDED, True) == (end.kind, end.maybe_charged)
    assert "no poll told its status; the last poll went wrong: lost after sending" in end.message
    assert world.seconds == pytest.approx(60, abs=0.2)


def test_f23_an_unknown_status_runs_on_is_told_once_and_named_at_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.status("Levitating"))

    end = follow(lab, world)

    assert [("status", "Levitating")] == [(one.what, one.word) for one in world.events(Drift)]
    assert (Kind.DEADLINE_EXCEEDED, True) == (end.kind, end.maybe_charged)
    assert "'Levitating', a word that we do not know" in end.message
    assert len(world.polls) > 20


def test_f23_each_unknown_word_is_told_once(lab: SimpleNamespace) -> None:
    words = ["Dreaming", "Pending", "Dreaming", "Sleeping", "Dreaming"]
    world = lab.World([*map(lab.status, words), lab.ready()])

    follow(lab, world)

    assert ["Dreaming", "Sleeping"] == [one.word for one in world.events(Drift)]


def test_a_status_of_a_megabyte_is_cut_in_the_error(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.status("x" * 1_000_000))

    end = follow(lab, world, deadline_s=3)

    assert len(end.message) < 300


@pytest.mark.parametrize("word", ["Pending", "Reasoning", "Generating"])
def test_known_words_are_no_drift(lab: SimpleNamespace, word: str) -> None:
    world = lab.World([lab.status(word), lab.ready()])

    follow(lab, world)

    assert [] == world.events(Drift)
    assert [word] == [one.status for one in world.events(Progress)]


def test_f24_progress_never_goes_backwards(lab: SimpleNamespace) -> None:
    told = [0.1, 0.5, 0.2, None, 0.5, 1.0, 0.9, 1.0]
    world = lab.World([*(lab.status("Pending", progress=one) for one in told), lab.ready()])

    follow(lab, world)

    assert [0.1, 0.5, 1.0] == [one.fraction for one in world.events(Progress)]


@pytest.mark.parametrize("hostile", [-1, 2, 1e300, "0.5", True, [0.1], {"a": 1}])
def test_a_progress_that_is_no_fraction_is_unknown(lab: SimpleNamespace, hostile: Any) -> None:
    world = lab.World([lab.status("Pending", progress=hostile), lab.ready()])

    follow(lab, world)

    assert [None] == [one.fraction for one in world.events(Progress)]


@pytest.mark.parametrize(("word", "stage"), [("Request Moderated", "input"), ("Content Moderated", "output")])
def test_f25_moderation_ends_at_once_and_is_free(lab: SimpleNamespace, word: str, stage: str) -> None:
    world = lab.World([lab.status(word, details={"Moderation Reasons": ["NSFW"]})])

    end = follow(lab, world)

    assert (Kind.MODERATED, False, stage, ("NSFW",)) == (end.kind, end.maybe_charged, end.stage, end.reasons)
    assert end.state is JobState.MODERATED


def test_f26_a_failed_task_ends_at_once_and_is_free(lab: SimpleNamespace) -> None:
    world = lab.World([lab.status("Error", details={"error": "CUDA"})])

    end = follow(lab, world)

    assert (Kind.GENERATION_FAILED, False, 1) == (end.kind, end.maybe_charged, len(world.polls))


def test_f27_ready_without_a_link_is_polled_again_briefly_and_then_a_protocol_error(lab: SimpleNamespace) -> None:
    empty = lab.status("Ready", result={"seed": 1})
    late, never = lab.World([empty, lab.ready()]), lab.World(then=empty)

    assert isinstance(follow(lab, late), Made)
    end = follow(lab, never)
    assert (Kind.PROTOCOL_ERROR, True) == (end.kind, end.maybe_charged)
    assert len(never.polls) == Bfl.facts.unreadable_polls + 1


def test_f28_the_deadline_names_the_last_status(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.status("Pending"))

    end = follow(lab, world, deadline_s=7)

    assert (Kind.DEADLINE_EXCEEDED, True, JobState.RUNNING) == (end.kind, end.maybe_charged, end.state)
    assert "7 s" in end.message
    assert "'Pending'" in end.message


@pytest.mark.parametrize("deadline_s", [0.01, 0.3, 1.0, 9.99, 60.0])
def test_f28_one_last_look_is_taken_just_before_the_deadline(lab: SimpleNamespace, deadline_s: float) -> None:
    world = lab.World(then=lab.status("Pending"), send_s=0.0)

    follow(lab, world, deadline_s=deadline_s)

    assert 0.85 * deadline_s <= world.seconds <= deadline_s


def test_f63_after_a_suspend_one_more_look_is_taken(lab: SimpleNamespace) -> None:
    world = lab.World([lab.status("Pending"), lab.ready()], oversleep_s=0.0)
    flow = follow_task(world.watch(60, lab.candidate()), TASK, Running(TASK, "Pending"))
    world.oversleep_s = 50_000.0

    outcome = world.run(flow)

    assert isinstance(outcome, Ended | Made)
    assert len(world.polls) == 1


def test_a_200_with_html_never_submits_again_and_ends_in_protocol_error(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(200, HTML))

    end = follow(lab, world)

    assert (Kind.PROTOCOL_ERROR, True) == (end.kind, end.maybe_charged)
    assert "Bad Gateway" in end.raw
    assert len(world.sends) == Bfl.facts.unreadable_polls + 1


def test_a_good_answer_resets_what_was_counted(lab: SimpleNamespace) -> None:
    facts = Bfl.facts
    trouble = [lab.said(200, HTML)] * facts.unreadable_polls + [lab.status("Task not found", 404)] * 5
    world = lab.World([*trouble, lab.status("Pending"), *trouble, lab.status("Pending"), *trouble, lab.ready()])

    assert isinstance(follow(lab, world, deadline_s=300), Made)


def test_retry_after_on_a_200_is_ignored(lab: SimpleNamespace) -> None:
    pending = lab.said(200, {"status": "Pending"}, retry_after="30")
    world = lab.World([pending, pending, lab.ready()])

    follow(lab, world, poll_interval_s=0.5)

    assert [0.0, 0.5, 0.5] == world.sleeps


@pytest.mark.parametrize("http", [429, 503])
@pytest.mark.parametrize("body", [HTML, {"detail": "slow down"}])
def test_retry_after_on_429_and_503_is_honoured(lab: SimpleNamespace, http: int, body: Any) -> None:
    world = lab.World([lab.said(http, body, retry_after="7"), lab.ready()])

    follow(lab, world)

    assert [0.0, 7.0] == world.sleeps


@pytest.mark.parametrize("body", [HTML, {"detail": "slow down"}])
def test_a_429_is_waited_out_and_not_counted_against_the_task(lab: SimpleNamespace, body: Any) -> None:
    world = lab.World([lab.said(429, body)] * 12, then=lab.ready())

    assert isinstance(follow(lab, world, deadline_s=300), Made)


def test_retry_after_is_capped_by_the_deadline_with_one_last_look(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(503, HTML, retry_after="3600"), lab.ready()])

    outcome = follow(lab, world)

    assert isinstance(outcome, Made)
    assert world.seconds < 60.5


def test_retry_after_zero_does_not_hammer(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(503, HTML, retry_after="0"), send_s=0.0)

    follow(lab, world, poll_interval_s=0.5)

    assert len(world.polls) <= 60 / 0.25 + 2


def test_a_refused_key_at_a_poll_says_so_and_leaves_the_money_at_risk(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.said(403, {"detail": "Not authenticated"}))

    end = follow(lab, world)

    assert (Kind.AUTHENTICATION_FAILED, True) == (end.kind, end.maybe_charged)
    assert "Not authenticated" in end.message


def test_one_hung_poll_does_not_use_up_the_deadline(lab: SimpleNamespace) -> None:
    world = lab.World(then=lab.status("Pending"))

    follow(lab, world, deadline_s=300)

    assert max(one.within_s for one in world.polls) == 30


def test_every_repeat_is_told(lab: SimpleNamespace) -> None:
    world = lab.World([lab.said(502, HTML), lab.ready()])

    follow(lab, world)

    (event,) = world.events(Retrying)
    assert "poll" == event.purpose
    assert event.reason


def test_one_more_call_that_tells_how_a_task_ended_is_made_at_once_and_repeated(lab: SimpleNamespace) -> None:
    fetch = get(Purpose.FETCH, "/toy/one/result")
    states = {
        "fetch": Fetch(fetch, Task("one")),
        "busy": Refused(Kind.UNAVAILABLE, "busy", shape="code"),
        "done": Succeeded((Output("https://x.example/a.png"),), Task("one")),
    }
    who = lab.candidate(adapter=lab.Toy(states))
    world = lab.World([lab.said(200, "fetch"), lab.said(503, "busy"), lab.said(200, "done")])

    made = world.run(follow_task(world.watch(60, who), Task("one"), None))

    assert isinstance(made, Made)
    assert [Purpose.POLL, Purpose.FETCH, Purpose.FETCH] == [one.call.purpose for one in world.sends]
    assert world.sleeps[1] == 0.0


def test_a_submit_that_names_a_fetch_is_fetched_without_a_poll(lab: SimpleNamespace) -> None:
    fetch = get(Purpose.FETCH, "/toy/one/result")
    who = lab.candidate(adapter=lab.Toy({"done": Succeeded((Output("https://x.example/a.png"),), Task("one"))}))
    world = lab.World([lab.said(200, "done")])

    made = world.run(follow_task(world.watch(60, who), Task("one"), Fetch(fetch, Task("one"))))

    assert isinstance(made, Made)
    assert [Purpose.FETCH] == [one.call.purpose for one in world.sends]


def test_a_task_that_is_renamed_by_a_reply_is_polled_by_its_new_name(lab: SimpleNamespace) -> None:
    states = {
        "moved": Running(Task("two"), "Pending"),
        "done": Succeeded((Output("https://x.example/a.png"),), Task("two")),
    }
    who = lab.candidate(adapter=lab.Toy(states))
    world = lab.World([lab.said(200, "moved"), lab.said(200, "done")])

    world.run(follow_task(world.watch(60, who), Task("one"), None))

    assert ["/toy/one", "/toy/two"] == [one.call.path for one in world.polls]
