"""What is said on stderr while a job runs."""

import os
import pty
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anykontext.cli.progress import Bar, Lines, display
from anykontext.cli.say import Say, printable
from anykontext.model import events
from anykontext.model.errors import Kind
from anykontext.model.job import JobHandle, JobState, Task

WHO: dict[str, Any] = {"job_id": "job_1", "provider": "bfl", "model": "m", "seconds": 1.0}


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return lines


def test_percents_are_told_by_quarters(said: Callable[[], list[str]]) -> None:
    lines = Lines(Say())
    for percent in range(101):
        lines.event(events.Progress(**WHO, status="Pending", fraction=percent / 100))
    assert len(said()) == 5


def test_a_place_in_the_queue_is_told(said: Callable[[], list[str]]) -> None:
    Lines(Say()).event(events.Progress(**WHO, status="IN_QUEUE", queue_position=3))
    assert said() == ["[  1.0 s] bfl/m: IN_QUEUE, place 3 in the queue"]


def test_what_stays_worth_knowing_is_a_warning(said: Callable[[], list[str]]) -> None:
    lines = Lines(Say())
    lines.event(events.Drift(**WHO, what="status", word="Dreaming"))
    lines.event(events.FailingOver(**WHO, kind=Kind.UNAVAILABLE, reason="down", maybe_charged=True))
    lines.event(events.Finished(**WHO, state=JobState.FAILED, maybe_charged=False))
    assert said() == [
        "Warning: bfl said an unknown status, 'Dreaming': the provider may have changed",
        "Warning: bfl/m failed (unavailable: down), and may be charged; the next one is tried",
    ]


def test_quiet_says_nothing(said: Callable[[], list[str]]) -> None:
    with display(Say(quiet=True)) as shown:
        shown.event(events.Drift(**WHO, what="status", word="Dreaming"))
    assert said() == []


def test_a_provider_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\n") == "a\\x1b[2Jb\\x9bc\n"


def test_on_a_terminal_a_bar_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        say = Say()
        with display(say) as shown:
            assert isinstance(shown, Bar)
            shown.event(events.Submitted(**WHO, handle=JobHandle("job_1", "bfl", "bfl", "m", "edit", (Task("7"),))))
            shown.event(events.Progress(**WHO, status="[red]Pending", fraction=0.5))
            shown.event(events.Drift(**WHO, what="status", word="Dreaming"))
            shown.waiting()
        text = ""
        while select.select([leader], [], [], 0.2)[0]:  # a terminal hands over at most a page at a time
            text += os.read(leader, 100_000).decode(errors="replace")
    os.close(leader)
    assert "Warning: bfl said an unknown status" in text
    assert "Waiting for the provider's answer" in text
    assert say.printer is Say().printer
