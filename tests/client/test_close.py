"""Closing a client while others use it: nothing that was paid is lost, and everybody is told what became of his job."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.io import drive_async, drive_sync
from anykontext.sandbox import Emulator, Sandbox

from .conftest import KINDS, Twin, configured, picture
from .test_life import within

EDIT = ak.ImageRequest("make it blue", picture(), seed=7)


class Stage:
    """A client of either kind; calls of it run beside each other, in threads or on a loop in a thread."""

    def __init__(self, kind: str, config: ak.Config) -> None:
        self.is_sync = kind == "Client"
        self.client: Any = ak.Client(config) if self.is_sync else ak.AsyncClient(config)
        self._pool = ThreadPoolExecutor(8)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def begin(self, what: str | Callable[..., Any], *args: Any, **options: Any) -> "Future[Any]":
        """Call a method of the client, or of a job, and go on."""
        call = partial(getattr(self.client, what) if isinstance(what, str) else what, *args, **options)
        return self._pool.submit(call) if self.is_sync else asyncio.run_coroutine_threadsafe(call(), self.loop)

    def end(self) -> None:
        self.begin("close").result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._pool.shutdown()


@contextmanager
def staged(kind: str, config: ak.Config) -> Iterator[Stage]:
    stage = Stage(kind, config)
    try:
        yield stage
    finally:
        stage.end()


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest, bfl: Emulator) -> Iterator[Stage]:
    with staged(request.param, configured(bfl)) as one:
        yield one


def recovered(config: ak.Config) -> list[Any]:
    """What another client finds of the jobs: the seed of each, or its error."""
    with ak.Client(config) as client:
        return [one.result.seed if one.result else one.error for one in client.recover()]


def in_flight(stage: Stage, bfl: Emulator, call: str = "run", slow_s: float = 0.4) -> "Future[Any]":
    """A submit that was accepted, while its reply is under way."""
    bfl.slow_seconds = slow_s
    bfl.inject("submit-slow")
    bfl.inject("never-ends")
    future = stage.begin(call, EDIT)
    assert within(10, lambda: bfl.counters["accepted"] == 1)
    return future


needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timer that signals")


@contextmanager
def alarm(seconds: float, handler: Callable[..., Any]) -> Iterator[None]:
    """Signal this thread after a while."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestASubmitInFlight:
    """It is waited for, as after Ctrl-C."""

    def test_a_run_is_told_that_its_job_goes_on_and_how_to_resume_it(self, stage: Stage, bfl: Emulator) -> None:
        running = in_flight(stage, bfl)
        stage.begin("close").result(10)

        with pytest.raises(ak.DeadlineExceeded, match=r"closed.*runs on") as caught:
            running.result(10)
        assert caught.value.maybe_charged
        assert caught.value.job_id == caught.value.handle.job_id  # type: ignore[union-attr]
        bfl.clear()
        with ak.Client(configured(bfl)) as other:
            assert 7 == other.resume(caught.value.handle).wait().seed  # type: ignore[arg-type]
        assert 1 == bfl.counters["submits"]

    def test_a_submit_still_gives_its_job(self, stage: Stage, bfl: Emulator) -> None:
        submitting = in_flight(stage, bfl, "submit")
        stage.begin("close").result(10)

        job = submitting.result(10)
        assert job.handle is not None
        bfl.clear()
        assert [7] == recovered(configured(bfl))
        assert 1 == bfl.counters["submits"]

    def test_its_acceptance_is_in_the_ledger_when_close_is_done(self, stage: Stage, bfl: Emulator) -> None:
        in_flight(stage, bfl)
        stage.begin("close").result(10)

        with ak.Client(configured(bfl)) as other:
            (job,) = other.jobs()
            assert "running" == job.state
            assert other.job(job.job_id).handle is not None

    def test_a_second_close_lets_it_go_at_once_and_the_outcome_is_unknown(self, stage: Stage, bfl: Emulator) -> None:
        running = in_flight(stage, bfl, slow_s=30.0)
        first = stage.begin("close")
        assert not within(0.3, first.done)
        began = time.monotonic()
        stage.begin("close").result(10)
        first.result(10)

        with pytest.raises(ak.OutcomeUnknown) as caught:
            running.result(10)
        assert time.monotonic() - began < 5
        assert caught.value.maybe_charged
        bfl.clear()
        with ak.Client(configured(bfl)) as other:
            assert ["unknown"] == [one.state for one in other.jobs()]

    def test_a_cancellation_of_the_close_lets_it_go_at_once(self, bfl: Emulator) -> None:
        async def main(client: ak.AsyncClient) -> None:
            bfl.slow_seconds = 30.0
            bfl.inject("submit-slow")
            running = asyncio.ensure_future(client.run(EDIT))
            while bfl.counters["accepted"] < 1:  # noqa: ASYNC110 - it is counted in another thread
                await asyncio.sleep(0.01)
            closing = asyncio.ensure_future(client.close())
            await asyncio.sleep(0.1)
            closing.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await closing
            with pytest.raises(ak.OutcomeUnknown):
                await running
            assert time.monotonic() - began < 5

        with Twin("AsyncClient", configured(bfl)) as twin:
            twin.wait(main(twin.client))

    @needs_alarm
    def test_ctrl_c_during_the_close_lets_it_go_at_once(self, bfl: Emulator) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with staged("Client", configured(bfl)) as stage:
            running = in_flight(stage, bfl, slow_s=30.0)
            began = time.monotonic()
            with alarm(0.2, interrupt), pytest.raises(KeyboardInterrupt):
                stage.client.close()
            with pytest.raises(ak.OutcomeUnknown):
                running.result(10)
            assert time.monotonic() - began < 5

    @needs_alarm
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_signal_handler_may_close_the_client_that_it_interrupts(self, bfl: Emulator, times: int) -> None:
        bfl.slow_seconds = 0.5
        bfl.inject("submit-slow")
        bfl.inject("never-ends")
        client = ak.Client(configured(bfl))

        def close(*_: object) -> None:
            if times == 2:
                signal.signal(signal.SIGALRM, lambda *_: client.close())
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            client.close()

        with alarm(0.2, close), pytest.raises(ak.DeadlineExceeded if times == 1 else ak.OutcomeUnknown):
            client.run(EDIT)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("quick")
    def test_the_grace_has_an_end(self, kind: str, bfl: Emulator) -> None:
        with staged(kind, configured(bfl)) as stage:
            running = in_flight(stage, bfl, slow_s=30.0)
            began = time.monotonic()
            stage.begin("close").result(10)
            assert time.monotonic() - began < 3
            with pytest.raises(ak.OutcomeUnknown):
                running.result(10)


@pytest.fixture
def together() -> Iterator[Emulator]:
    with Sandbox(providers=["together"], seconds=0.05) as sandbox:
        one = sandbox.emulators["together"]
        one.megapixels = 0.02
        yield one


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_no_task_names_is_fetched_before_the_end(
    kind: str, together: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, afetch = drive_sync.fetch, drive_async.afetch

    def slowly(*args: Any) -> Any:
        time.sleep(0.4)
        return fetch(*args)

    async def slowly_too(*args: Any) -> Any:
        await asyncio.sleep(0.4)
        return await afetch(*args)

    monkeypatch.setattr(drive_sync, "fetch", slowly)
    monkeypatch.setattr(drive_async, "afetch", slowly_too)
    together.slow_seconds = 0.3
    together.inject("submit-slow")

    with staged(kind, ak.Config(providers={"together": together.config()})) as stage:
        running = stage.begin("run", ak.ImageRequest("a cat"))
        assert within(10, lambda: together.counters["accepted"] == 1)
        stage.begin("close").result(10)
        result = running.result(10)

    assert result.image.data
    with ak.Client(ak.Config(providers={"together": together.config()})) as other:
        assert ["succeeded"] == [one.state for one in other.jobs()]


class TestWhatCanBeResumed:
    """It is not waited for."""

    def test_an_idle_client_is_closed_at_once(self, stage: Stage) -> None:
        stage.begin("run", EDIT).result(10)
        began = time.monotonic()
        stage.begin("close").result(10)

        assert time.monotonic() - began < 0.5

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_pause_between_polls_ends_at_once(self, kind: str, bfl: Emulator) -> None:
        with staged(kind, configured(bfl, poll_interval_s=30)) as stage:
            running = stage.begin("run", EDIT)
            assert within(10, lambda: bfl.counters["accepted"] == 1)
            began = time.monotonic()
            stage.begin("close").result(10)
            assert time.monotonic() - began < 1.5
            with pytest.raises(ak.DeadlineExceeded, match="closed"):
                running.result(10)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_run_that_waits_for_a_place_ends_and_nothing_was_spent(self, kind: str, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        with staged(kind, configured(bfl, max_in_flight=1)) as stage:
            stage.begin("submit", EDIT).result(10)
            second = stage.begin("run", EDIT)
            assert within(10, lambda: len(stage.client._shared.driver.flows._running) == 2)
            stage.begin("close").result(10)
            with pytest.raises(ak.AnykontextError, match="closed before anything") as caught:
                second.result(10)

        assert not caught.value.maybe_charged
        with ak.Client(configured(bfl)) as other:
            assert ["cancelled", "running"] == sorted(one.state for one in other.jobs())

    @pytest.mark.parametrize("how", ["submit", "resume"])
    def test_whoever_waits_for_a_job_is_told_its_handle(self, stage: Stage, bfl: Emulator, how: str) -> None:
        bfl.inject("never-ends")
        with ak.Client(configured(bfl)) as other:
            asked = other.submit(EDIT).handle if how == "resume" else EDIT
        job = stage.begin(how, asked).result(10)
        waiting = stage.begin(job.wait)
        assert not within(0.2, waiting.done)
        stage.begin("close").result(10)

        with pytest.raises(ak.DeadlineExceeded, match="closed") as caught:
            waiting.result(10)
        assert job.handle == caught.value.handle

    def test_an_event_may_close_the_client(self, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        client = ak.Client(configured(bfl))

        def close(event: ak.Event) -> None:
            if isinstance(event, ak.Submitted):
                client.close()

        with pytest.raises(ak.DeadlineExceeded, match="closed"):
            client.run(EDIT, on_event=close)

        bfl.clear()
        assert within(5, lambda: [7] == recovered(configured(bfl)))


PROGRAM = """
    import os, sys, threading, time
    import anykontext as ak

    client, case, sent = ak.Client(), sys.argv[1], threading.Event()
    request = ak.ImageRequest("a cat", seed=7)

    def tell(event):
        if isinstance(event, ak.Submitting):
            sent.set()

    def run():
        try:
            client.run(request, on_event=tell)
        except ak.DeadlineExceeded:
            pass

    if case == "thread":
        threading.Thread(target=run, daemon=True).start()
        sent.wait(10)
        time.sleep(0.2)
    elif case == "submitted":
        client.submit(request)
    elif case == "run_many":
        outcomes = client.run_many([request, "no request"], concurrency=2, on_event=tell)
        print(type(next(outcomes).error).__name__)
        sent.wait(10)
        time.sleep(0.2)
    elif case == "fork":
        job = client.submit(request)
        child = os.fork()
        with client:
            if not child:
                began = time.monotonic()
        if not child:
            print("child", time.monotonic() - began < 1, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    print("end")
"""


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("thread", ["end"]),
        ("submitted", ["end"]),
        ("run_many", ["InvalidRequest", "end"]),
        pytest.param(
            "fork", ["child True", "end"], marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
        ),
    ],
)
def test_a_program_that_ends_without_a_close_loses_nothing_and_does_not_hang(
    case: str, said: list[str], bfl: Emulator, tmp_path: Path
) -> None:
    toml = tmp_path / "anykontext.toml"
    toml.write_text(
        f'[providers.bfl]\napi_key = "sandbox"\nbase_url = "{bfl.origins["api"]}"\npoll_interval_s = 0.05\n'
    )
    bfl.slow_seconds = 1.0
    bfl.inject("never-ends")
    if case in {"thread", "run_many"}:
        bfl.inject("submit-slow")
    began = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(PROGRAM), case],
        env={**os.environ, "ANYKONTEXT_CONFIG": str(toml)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (said, "") == (done.stdout.splitlines(), done.stderr)
    assert time.monotonic() - began < 10
    bfl.clear()
    assert [7] == recovered(configured(bfl))
    assert 1 == bfl.counters["submits"]


class TestRunMany:
    """Its requests are jobs like others."""

    def test_each_that_is_under_way_has_an_outcome_that_tells_what_became_of_it(
        self, stage: Stage, bfl: Emulator
    ) -> None:
        bfl.inject("never-ends")
        found: list[ak.Outcome] = []
        going = stage.begin(partial(taken, stage, found))
        assert within(10, lambda: bfl.counters["accepted"] == 2)
        stage.begin("close").result(10)

        with pytest.raises(ak.AnykontextError, match="closed"):
            going.result(10)
        assert [0, 1] == sorted(one.index for one in found)
        assert all(isinstance(one.error, ak.DeadlineExceeded) and one.error.handle for one in found)

    def test_to_leave_it_and_to_close_the_client_is_one_wish(self, stage: Stage, bfl: Emulator) -> None:
        bfl.slow_seconds = 0.8
        bfl.inject("submit-slow")
        bfl.inject("never-ends")
        found: list[ak.Outcome] = []
        both = threading.Event()
        going = stage.begin(partial(taken, stage, found, both=both))
        assert within(10, lambda: bfl.counters["accepted"] == 2)
        both.set()
        stage.begin("close").result(10)
        going.result(10)

        bfl.clear()
        assert [0, 1] == sorted(recovered(configured(bfl)))
        assert 2 == bfl.counters["submits"]


def taken(stage: Stage, found: list[ak.Outcome], both: threading.Event | None = None) -> Any:
    """Go over 20 requests, two at once; or over two and one that is none, and leave after the outcome of that."""
    asked: list[Any] = [ak.ImageRequest("a cat", seed=seed) for seed in range(20)]
    asked, places = (asked, 2) if both is None else ([*asked[:2], "no request"], 3)

    async def main() -> None:
        async with contextlib.aclosing(stage.client.run_many(asked, concurrency=places)) as outcomes:
            async for outcome in outcomes:
                found.append(outcome)
                if both is not None and await asyncio.to_thread(both.wait, 10):
                    break

    if not stage.is_sync:
        return main()
    with contextlib.closing(stage.client.run_many(asked, concurrency=places)) as outcomes:
        for outcome in outcomes:
            found.append(outcome)
            if both is not None and both.wait(10):
                break
    return None
