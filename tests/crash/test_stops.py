"""A process is stopped past its lease and goes on when another one has taken its job over."""

import time
from collections.abc import Callable

import pytest

import anykontext as ak
from anykontext.sandbox import Emulator

from .matrix import MINUTE_S, Aftermath, Lab, Point, later

pytestmark = pytest.mark.sandbox
LEASE_S = 0.3
AFTER_THE_INTENT: Point = ("before", "Send(submit)", 1)


class Stopped:
    """A process that stands still at a point of its job's life, while its lease ends and another one recovers."""

    def __init__(self, lab: Lab, at: Point, then_killed: Point | None = None) -> None:
        self.lab, self.home = lab, lab.home()
        told = lab.nursery.run(
            config=str(lab.config), home=str(self.home), mode="edit", at=list(at), stop=True, lease_s=LEASE_S,
            then=list(then_killed or ()),
        )  # fmt: skip
        assert told["stopped"], told
        self.pid = told["pid"]

    def recover_after_the_lease(self) -> list[ak.Outcome]:
        time.sleep(LEASE_S)
        with self.lab.client(self.home) as client:
            return client.recover()

    def job(self) -> ak.JobRecord:
        with self.lab.client(self.home) as client:
            return client.jobs()[0]

    def wake(self) -> int:
        return self.lab.nursery.wake(self.pid)

    def aftermath(self) -> Aftermath:
        with later(MINUTE_S):
            return self.lab.looked_after(self.home, None)

    @property
    def error(self) -> str:
        return (self.home / "error").read_text()


@pytest.fixture
def bfl(lab: Callable[[str], Lab]) -> Lab:
    return lab("bfl")


def accepted(emulator: Emulator) -> tuple[int, int]:
    return emulator.counters["submits"], emulator.counters["accepted"]


def test_a_job_is_not_taken_over_before_its_lease_has_ended(bfl: Lab) -> None:
    with bfl.client(bfl.home()) as client:
        assert [] == client.recover()
    home = bfl.home()
    bfl.nursery.run(config=str(bfl.config), home=str(home), mode="edit", at=list(AFTER_THE_INTENT), stop=True)

    with bfl.client(home) as client:
        assert [] == client.recover()
        assert ak.JobState.QUEUED is client.jobs()[0].state


def test_a_submit_that_leaves_late_adds_its_handle_and_its_image_is_not_lost(bfl: Lab) -> None:
    stopped = Stopped(bfl, AFTER_THE_INTENT)

    recovered = stopped.recover_after_the_lease()

    assert [ak.OutcomeUnknown] == [type(one.error) for one in recovered]
    assert (ak.JobState.UNKNOWN, True) == (stopped.job().state, stopped.job().at_risk)
    assert (0, 0) == accepted(bfl.emulator)
    assert 0 == stopped.wake()  # the intent was written, so the submit may leave: once
    assert (1, 1) == accepted(bfl.emulator)
    found = stopped.aftermath()
    assert (ak.JobState.SUCCEEDED, True, ()) == (found.job.state, found.stored, found.recovered)


def test_a_late_handle_whose_process_dies_is_collected_by_the_next_recovery(bfl: Lab) -> None:
    stopped = Stopped(bfl, AFTER_THE_INTENT, then_killed=("after", "Persist(Acceptance)", 1))
    stopped.recover_after_the_lease()

    assert -9 == stopped.wake()

    assert ak.JobState.RUNNING is stopped.job().state
    found = stopped.aftermath()
    assert "collected" == found.outcome
    assert (1, 1) == accepted(bfl.emulator)


@pytest.mark.parametrize("when", ["body", "wait for the reply", "reply"])
def test_a_process_stopped_within_the_submit_ends_its_job_when_it_awakes(bfl: Lab, when: str) -> None:
    stopped = Stopped(bfl, ("in", when, 1))

    recovered = stopped.recover_after_the_lease()

    assert [ak.OutcomeUnknown] == [type(one.error) for one in recovered]
    assert 0 == stopped.wake()
    assert ak.JobState.SUCCEEDED is stopped.job().state
    assert (1, 1) == accepted(bfl.emulator)


def test_a_process_that_had_written_no_intent_sends_nothing_when_it_awakes(bfl: Lab) -> None:
    stopped = Stopped(bfl, ("before", "Persist(Intent)", 1))

    recovered = stopped.recover_after_the_lease()

    assert [False] == [one.error.maybe_charged for one in recovered]
    assert 3 == stopped.wake()
    assert "TakenOver" in stopped.error
    assert (0, 0) == accepted(bfl.emulator)
    assert not stopped.job().at_risk


def test_a_job_that_two_processes_collect_is_paid_and_recorded_once(bfl: Lab) -> None:
    stopped = Stopped(bfl, ("before", "Download", 1))

    recovered = stopped.recover_after_the_lease()

    assert [None] == [one.error for one in recovered]
    assert 0 == stopped.wake()
    assert (ak.JobState.SUCCEEDED, False) == (stopped.job().state, stopped.job().surplus)
    assert (1, 1) == accepted(bfl.emulator)
