"""Ctrl-C and SIGTERM, in a process of its own."""

import shlex
import signal
from collections.abc import Callable
from typing import Any

import pytest

from anykontext.cli.failures import Interrupted
from anykontext.cli.interrupt import Phase, Tracker, interrupted
from anykontext.model.errors import Unavailable
from anykontext.model.job import JobHandle, Task

EDIT = ("edit", "photo.jpg", "make it blue", "--provider", "bfl")


@pytest.mark.sandbox
def test_ctrl_c_after_the_provider_accepted_tells_how_to_go_on(start: Callable[..., Any]) -> None:
    running = start("sandbox", "--config-out", "ak.toml", "--seconds", "2.5")
    assert running.process.stdout.readline() == "ready\n"
    editing = start(*EDIT, "--config", "ak.toml", "-o", "out dir.png", "--json")
    editing.said("accepted by bfl")
    editing.send()
    ended = editing.end()

    assert ended.code == 130
    assert (ended.error["class"], ended.error["maybe_charged"]) == ("Interrupted", True)
    assert ended.error["job_id"] == ended.error["job"]["job_id"]
    assert f"Interrupted: job {ended.error['job_id']} was accepted by bfl" in ended.err
    (command,) = [line for line in ended.err.splitlines() if line.startswith("Go on with it: ")]
    words = shlex.split(command.removeprefix("Go on with it: "))
    assert words[:3] == ["anykontext", "jobs", "resume"]
    assert words[3] == ended.error["job_id"]
    assert words[4:] == ["-o", "out dir.png", "--config", "ak.toml"]

    again = start(*words[1:]).end()
    assert (again.code, again.out) == (0, "out dir.png\n"), again.err
    running.send(signal.SIGTERM)
    assert running.end().code == 0


@pytest.mark.sandbox
def test_sigterm_is_as_ctrl_c_and_the_sandbox_ends_with_the_command(start: Callable[..., Any]) -> None:
    running = start(*EDIT, "--sandbox", "--seconds", "30")
    running.said("accepted by bfl")
    running.send(signal.SIGTERM)
    running.end().refused("Interrupted: job job_", "anykontext jobs resume '{", "The sandbox has ended", code=130)


@pytest.mark.sandbox
def test_ctrl_c_during_a_submit_waits_for_its_answer(start: Callable[..., Any]) -> None:
    running = start(*EDIT, "--sandbox", "--fault", "submit-slow")
    running.said("sending to bfl")
    running.send()
    assert "press Ctrl-C again" in running.said("Waiting for the provider's answer")
    ended = running.end()
    ended.refused("was accepted by bfl", "jobs resume", code=130)


@pytest.mark.sandbox
def test_a_second_ctrl_c_leaves_at_once_and_tells_that_money_may_be_spent(start: Callable[..., Any]) -> None:
    running = start(*EDIT, "--sandbox", "--fault", "submit-slow", "--json")
    running.said("sending to bfl")
    running.send()
    running.said("Waiting for the provider's answer")
    running.send()
    ended = running.end(within_s=2)
    assert ended.code == 130
    assert ended.error["class"] == "Interrupted"
    assert (ended.error["kind"], ended.error["maybe_charged"]) == ("outcome_unknown", True)
    assert ended.error["job_id"] in ended.err
    assert "money may have been spent" in ended.err


def test_ctrl_c_before_anything_was_sent_says_so() -> None:
    error = interrupted(Tracker(), None, str)
    assert str(error) == "Interrupted: nothing was sent; nothing was charged"
    assert error.fields["maybe_charged"] is False


def test_a_submit_in_flight_that_nobody_waited_for_may_be_charged() -> None:
    error = interrupted(Tracker(phase=Phase.SENDING, job_id="job_1", provider="bfl"), None, str)
    assert error.fields["maybe_charged"] is True
    assert "may have been accepted" in str(error)


def test_a_submit_that_nobody_waited_for_is_settled_by_resolve() -> None:
    tracker = Tracker(phase=Phase.SENDING, job_id="job_1", provider="bfl", in_ledger=True)
    assert interrupted(tracker, None, str).__notes__ == [
        "Once you know: anykontext jobs resolve job_1 --charged (or --not-charged)"
    ]


def test_a_refused_submit_has_nothing_to_resolve() -> None:
    tracker = Tracker(phase=Phase.SENDING, job_id="job_1", provider="bfl", in_ledger=True)
    cause = Unavailable("busy", provider="bfl", model="flux-kontext-pro", job_id="job_1")
    assert not hasattr(interrupted(tracker, cause, str), "__notes__")


def test_a_job_taken_up_from_the_ledger_goes_on_by_its_id() -> None:
    error = interrupted(Tracker(job_id="job_1"), None, lambda one: f"resume {one}")
    assert "job job_1 was taken up; nothing was sent anew" in str(error)
    assert error.__notes__ == ["resume job_1"]


def test_handles_of_earlier_attempts_that_may_be_charged_are_told_too() -> None:
    handle = JobHandle("job_1", "bfl", "bfl", "flux-kontext-pro", "edit", (Task("1"),))
    error: Interrupted = interrupted(Tracker(lost=[handle], maybe_charged=True), None, lambda one: one.job_id)
    assert error.__notes__ == ["job_1"]
    assert "an earlier attempt may have been charged" in str(error)
