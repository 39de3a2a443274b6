"""The deadline is end to end: what is done to the pictures before anything is sent counts too."""

import time
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import Emulator

from .conftest import Twin, picture


class Slow:
    """A file that takes its time."""

    def read(self, size: int = -1) -> bytes:
        time.sleep(0.3)
        data, self.data = getattr(self, "data", picture()), b""
        return data


def test_a_deadline_that_passed_while_the_picture_was_read_sends_nothing(twin: Twin, bfl: Emulator) -> None:
    with pytest.raises(ak.DeadlineExceeded, match="before anything was sent") as caught:
        twin.wait(twin.client.edit(Slow(), "make it blue", deadline=0.2))

    error: Any = caught.value
    assert not error.maybe_charged
    assert 0 == bfl.counters["submits"]
