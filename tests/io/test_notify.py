"""Events reach the caller and the log; nothing that a caller's function does costs a job."""

import logging
from typing import Any

import pytest

from anykontext.io.notify import Notifier
from anykontext.model import events
from anykontext.model.errors import Kind
from anykontext.model.events import Event
from anykontext.model.job import JobHandle, JobState, Task
from anykontext.model.result import Adjustment

WHO = {"job_id": "job_1", "provider": "bfl", "model": "flux-kontext-pro", "seconds": 1.5}
HANDLE = JobHandle("job_1", "bfl", "bfl", "flux-kontext-pro", "edit", (Task("t1"), Task("t2")))
LOOSER = Adjustment("safety_tolerance", 0, 1, "the nearest", more_permissive=True)
STRICTER = Adjustment("safety_tolerance", 5, 2, "the nearest")

SAID: dict[str, tuple[Event, int, str]] = {
    "drift": (events.Drift(**WHO, what="status", word="Simmering"), logging.WARNING, "unknown status: 'Simmering'"),
    "failing_over": (
        events.FailingOver(**WHO, kind=Kind.UNAVAILABLE, reason="503", maybe_charged=False),
        logging.WARNING,
        "unavailable: 503",
    ),
    "a_looser_adjustment": (events.Adjusted(**WHO, adjustment=LOOSER), logging.WARNING, str(LOOSER)),
    "a_stricter_adjustment": (events.Adjusted(**WHO, adjustment=STRICTER), logging.DEBUG, str(STRICTER)),
    "submitted": (events.Submitted(**WHO, handle=HANDLE), logging.INFO, "task=t1,t2"),
    "retrying": (
        events.Retrying(**WHO, purpose="poll", reason="502", wait_s=0.25),
        logging.INFO,
        "poll again in 0.2 s: 502",
    ),
    "finished": (
        events.Finished(**WHO, state=JobState.UNKNOWN, maybe_charged=True),
        logging.INFO,
        "unknown maybe_charged=True seconds=1.50",
    ),
    "submitting": (events.Submitting(**WHO), logging.DEBUG, ""),
}


@pytest.mark.parametrize("name", SAID)
def test_each_event_is_one_line_of_the_log(name: str, caplog: pytest.LogCaptureFixture) -> None:
    event, level, words = SAID[name]
    caplog.set_level(logging.DEBUG, "anykontext")

    Notifier().event(event)

    (record,) = caplog.records
    assert level == record.levelno
    beginning = f"{type(event).__name__.lower()} bfl/flux-kontext-pro job=job_1 "
    assert beginning + words == record.getMessage()


def test_events_are_passed_on_as_they_are_and_in_order() -> None:
    seen: list[Event] = []
    notifier = Notifier(seen.append)

    for event, _, _ in SAID.values():
        notifier.event(event)

    assert [event for event, _, _ in SAID.values()] == seen


def test_what_on_event_raises_is_logged_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Any) -> None:
        raise ValueError(f"no {event}")

    Notifier(broken).event(SAID["submitted"][0])

    assert [logging.ERROR] == [record.levelno for record in caplog.records]
    assert "on_event raised on Submitted; the job goes on" == caplog.messages[0]
