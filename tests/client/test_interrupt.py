"""Ctrl-C and cancellation: a submit in flight is waited for, what was accepted is told, and twice means at once."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import Emulator

from .conftest import KINDS, Twin, configured, picture
from .test_life import within

PROGRAM = """
    import asyncio, signal, sys
    import anykontext as ak

    def told(event):
        handle = getattr(event, "handle", None)
        print(type(event).__name__, handle.to_json() if handle else getattr(event, "state", ""), flush=True)

    async def main():
        async with ak.AsyncClient() as client:
            await client.edit(sys.argv[2], "make it blue", seed=7, on_event=told)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if sys.argv[1] == "Client":
            with ak.Client() as client:
                client.edit(sys.argv[2], "make it blue", seed=7, on_event=told)
        else:
            asyncio.run(main())
    except KeyboardInterrupt as stop:
        print("KeyboardInterrupt", type(stop.__cause__).__name__, flush=True)
"""


@pytest.fixture(params=KINDS)
def program(request: pytest.FixtureRequest, bfl: Emulator, tmp_path: Path) -> Any:
    """A program that edits one image and is interrupted."""
    toml, image = tmp_path / "anykontext.toml", tmp_path / "photo.png"
    toml.write_text(
        f'[providers.bfl]\napi_key = "sandbox"\nbase_url = "{bfl.origins["api"]}"\npoll_interval_s = 0.02\n'
    )
    image.write_bytes(picture())

    @contextmanager
    def run() -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), request.param, str(image)],
            env={**os.environ, "ANYKONTEXT_CONFIG": str(toml)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    run.kind = request.param  # type: ignore[attr-defined]
    return run


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, errors = process.communicate(timeout=15)
    assert "" == errors
    assert 0 == process.returncode
    return out.splitlines()


def test_f61_ctrl_c_during_a_submit_waits_for_its_reply_and_tells_the_handle(program: Any, bfl: Emulator) -> None:
    bfl.slow_seconds = 0.7
    bfl.inject("submit-slow")
    with program() as process:
        assert within(15, lambda: bfl.counters["accepted"] == 1)
        process.send_signal(signal.SIGINT)
        told = ended(process)
    bfl.clear()

    assert ["Planned", "Submitting", "Submitted"] == [line.split()[0] for line in told[:3]]
    assert "KeyboardInterrupt NoneType" == told[-1]
    with ak.Client(configured(bfl)) as client:
        assert 7 == client.resume(told[2].partition(" ")[2]).wait().seed
    assert 1 == bfl.counters["submits"]


def test_a_second_ctrl_c_leaves_at_once_and_tells_that_the_outcome_is_unknown(program: Any, bfl: Emulator) -> None:
    bfl.slow_seconds = 30.0
    bfl.inject("submit-slow")
    with program() as process:
        assert within(15, lambda: bfl.counters["accepted"] == 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        told = ended(process)

    assert time.monotonic() - began < 10
    assert "Finished unknown" in told
    assert "KeyboardInterrupt" == told[-1].split()[0]
    if program.kind == "Client":  # asyncio.run raises a KeyboardInterrupt of its own, without our cause
        assert "KeyboardInterrupt OutcomeUnknown" == told[-1]
    assert 1 == bfl.counters["submits"]


def test_f62_ctrl_c_between_two_polls_leaves_at_once_and_the_handle_was_told(program: Any, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    with program() as process:
        assert within(15, lambda: bfl.counters["polls"] >= 1)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        told = ended(process)
    bfl.clear()

    assert time.monotonic() - began < 10
    assert ["Planned", "Submitting", "Submitted"] == [line.split()[0] for line in told[:3]]
    assert "KeyboardInterrupt NoneType" == told[-1]
    with ak.Client(configured(bfl)) as client:
        assert 7 == client.resume(told[2].partition(" ")[2]).wait().seed


class TestCancellation:
    """The same for a task on an event loop."""

    @pytest.fixture
    def twin(self, bfl: Emulator) -> Iterator[Twin]:
        with Twin("AsyncClient", configured(bfl)) as one:
            yield one

    @staticmethod
    async def accepted(bfl: Emulator, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while bfl.counters["accepted"] < count:  # noqa: ASYNC110 - it is counted in another thread
                await asyncio.sleep(0.01)

    def test_f61_once_during_a_submit_waits_for_its_reply(self, twin: Twin, bfl: Emulator) -> None:
        bfl.slow_seconds = 0.4
        bfl.inject("submit-slow")
        events: list[ak.Event] = []

        async def main() -> None:
            task = asyncio.ensure_future(twin.client.edit(picture(), "make it blue", seed=7, on_event=events.append))
            await self.accepted(bfl)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.__cause__ is None

        twin.wait(main())
        bfl.clear()

        (handle,) = [event.handle for event in events if isinstance(event, ak.Submitted)]
        assert 7 == twin.wait(twin.wait(twin.client.resume(handle)).wait()).seed
        assert 1 == bfl.counters["submits"]

    @pytest.mark.parametrize("images", [1, 3])
    def test_f61_twice_leaves_at_once_with_the_unknown_outcome_as_the_cause(
        self, twin: Twin, bfl: Emulator, images: int
    ) -> None:
        bfl.slow_seconds = 30.0
        bfl.inject("submit-slow")

        async def main() -> None:
            task = asyncio.ensure_future(twin.client.edit(picture(), "make it blue", num_images=images))
            await self.accepted(bfl, images)
            task.cancel()
            await asyncio.sleep(0.1)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert time.monotonic() - began < 5
            assert isinstance(caught.value.__cause__, ak.OutcomeUnknown)
            assert caught.value.__cause__.maybe_charged

        twin.wait(main())

        assert images == bfl.counters["submits"]

    def test_f62_a_timeout_around_an_edit_is_a_timeout_error_and_leaves_a_handle(
        self, twin: Twin, bfl: Emulator
    ) -> None:
        bfl.inject("never-ends")
        events: list[ak.Event] = []

        async def main() -> None:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.4):
                    await twin.client.edit(picture(), "make it blue", on_event=events.append)
            assert not isinstance(caught.value, ak.AnykontextError)

        twin.wait(main())

        assert 1 == sum(isinstance(event, ak.Submitted) for event in events)

    def test_a_member_of_a_task_group_is_stopped_with_it_and_its_submit_is_not_lost(
        self, twin: Twin, bfl: Emulator
    ) -> None:
        bfl.slow_seconds = 0.4
        bfl.inject("submit-slow")
        events: list[ak.Event] = []

        async def fail() -> None:
            await self.accepted(bfl)
            raise KeyError

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(twin.client.edit(picture(), "make it blue", on_event=events.append))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup):
            twin.wait(together())

        assert 1 == sum(isinstance(event, ak.Submitted) for event in events)

    def test_a_place_is_given_back_after_a_cancellation(self, bfl: Emulator) -> None:
        bfl.inject("never-ends")

        async def stopped(client: ak.AsyncClient) -> None:
            task = asyncio.ensure_future(client.edit(picture(), "make it blue"))
            await self.accepted(bfl)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()

        with Twin("AsyncClient", configured(bfl, max_in_flight=1)) as twin:
            twin.wait(stopped(twin.client))
            bfl.clear()

            assert 7 == twin.edit(seed=7, deadline=10).seed
