"""Clients in use: many jobs at once, from threads and tasks, until they are closed; and what they leave behind."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.sandbox import Emulator

from .conftest import KINDS, Twin, configured, picture


def within(seconds: float, what: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def edits(twin: Twin, count: int, **options: Any) -> list[ak.ImageResult]:
    """So many edits at the same time, with one client."""
    if twin.is_sync:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda seed: twin.edit(seed=seed, **options), range(count)))

    async def main() -> list[ak.ImageResult]:
        data = picture()
        return await asyncio.gather(*(twin.client.edit(data, "make it blue", seed=n, **options) for n in range(count)))

    return twin.wait(main())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("model", "count", "limit"), [("flux-kontext-pro", 40, 24), ("flux-kontext-max", 14, 6)])
def test_the_provider_s_limit_of_running_tasks_is_honoured(
    twin: Twin, bfl: Emulator, model: str, count: int, limit: int
) -> None:
    bfl.seconds = 0.1

    results = edits(twin, count, model=model)

    assert list(range(count)) == [result.seed for result in results]
    assert count == bfl.counters["submits"]
    assert count == bfl.counters["accepted"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_of_yours_is_honoured(kind: str, bfl: Emulator) -> None:
    bfl.seconds = 0.1
    most: list[int] = []
    accept = bfl.tasks.accept  # type: ignore[attr-defined]
    bfl.tasks.accept = lambda *args: (accept(*args), most.append(bfl.tasks.active("sandbox")))[0]  # type: ignore[attr-defined]

    with Twin(kind, configured(bfl, max_in_flight=2)) as twin:
        edits(twin, 6)

    assert 2 == max(most)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["bad-key", "failed", "submit-lost", "never-ends", "not-an-image"])
@pytest.mark.usefixtures("quick")
def test_a_place_is_given_back_after_a_failure(kind: str, fault: str, bfl: Emulator) -> None:
    with Twin(kind, configured(bfl, max_in_flight=1)) as twin:
        bfl.inject(fault)
        with pytest.raises(ak.ProviderError):
            twin.edit(deadline=0.5 if fault == "never-ends" else 10)
        bfl.clear()

        assert 7 == twin.edit(seed=7, deadline=10).seed


def test_several_images_are_made_at_the_same_time(twin: Twin, bfl: Emulator) -> None:
    bfl.slow_seconds = 0.6
    bfl.inject("submit-slow")
    began = time.monotonic()

    result = twin.edit(num_images=3)

    assert time.monotonic() - began < 2 * 0.6
    assert 3 == len(result.images)
    assert 3 == len(result.job.tasks)
    assert Decimal("0.12") == result.cost.amount


@pytest.mark.parametrize(("fault", "charged"), [("bad-key", False), ("submit-lost", True), ("gateway-page", True)])
def test_a_submit_that_fails_never_ends_the_one_beside_it(twin: Twin, bfl: Emulator, fault: str, charged: bool) -> None:
    bfl.slow_seconds = 0.2
    bfl.inject("submit-slow")
    bfl.inject(fault, times=1)

    result = twin.edit(num_images=3)

    assert 2 == len(result.images)
    assert 2 == len(result.job.tasks)
    assert [charged] == [error.maybe_charged for error in result.errors]
    assert Decimal("0.08") == result.cost.amount
    assert Decimal("0.12" if charged else "0.08") == result.spent.amount
    assert 3 == bfl.counters["submits"]


def test_an_on_event_that_raises_costs_nothing(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: ak.Event) -> None:
        raise RuntimeError(type(event).__name__)

    assert 7 == twin.edit(seed=7, on_event=broken).seed
    assert any("on_event raised on Finished" in message for message in caplog.messages)


def test_one_client_serves_many_threads(bfl: Emulator) -> None:
    with ak.Client(configured(bfl)) as client, ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(client.edit, picture(), "make it blue", seed=seed) for seed in range(24)]

        assert list(range(24)) == [job.result().seed for job in jobs]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux lists them")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("quick")
def test_many_jobs_leave_no_thread_no_task_and_no_file_behind(kind: str, bfl: Emulator) -> None:
    def work() -> None:
        with Twin(kind, configured(bfl)) as twin:
            edits(twin, 12)
            bfl.inject("poll-errors")
            edits(twin, 6)
            bfl.inject("never-ends")
            with pytest.raises(ak.DeadlineExceeded):
                twin.edit(deadline=0.2)
            bfl.clear()
            bfl.inject("submit-lost")
            with pytest.raises(ak.OutcomeUnknown):
                twin.edit()
            bfl.clear()

            async def others() -> int:
                return len(asyncio.all_tasks()) - 1

            assert 0 == (0 if twin.is_sync else twin.wait(others()))

    work()
    threads, files = threading.active_count(), open_files()
    work()

    assert within(3, lambda: threading.active_count() <= threads)
    assert within(3, lambda: open_files() <= files)


def test_a_closed_client_says_so(twin: Twin, bfl: Emulator) -> None:
    job = twin.submit(seed=7)
    handle = job.handle.to_json()
    twin.wait(twin.client.close())
    twin.wait(twin.client.close())  # twice is no harm
    before = dict(bfl.counters)

    for use in (
        twin.edit,
        twin.generate,
        twin.submit,
        lambda: twin.wait(twin.client.check()),
        lambda: twin.wait(twin.client.resume(handle)),
        lambda: twin.wait(job.wait()),
        lambda: twin.wait(job.refresh()),
        lambda: twin.wait(job.cancel()),
    ):
        with pytest.raises(ak.AnykontextError, match="closed"):
            use()

    assert before == dict(bfl.counters)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_whose_client_is_closed_meanwhile_ends_and_can_be_resumed(kind: str, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    handles: list[ak.JobHandle] = []
    outcome: list[BaseException] = []

    def told(event: ak.Event) -> None:
        if isinstance(event, ak.Progress):
            running.set()
        if isinstance(event, ak.Submitted):
            handles.append(event.handle)

    running = threading.Event()
    with Twin(kind, configured(bfl)) as twin:
        if twin.is_sync:

            def work() -> None:
                try:
                    twin.edit(seed=7, on_event=told)
                except BaseException as error:  # noqa: BLE001
                    outcome.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            assert running.wait(10)
            twin.client.close()
            thread.join(10)
        else:

            async def main() -> None:
                task = asyncio.ensure_future(twin.client.edit(picture(), "make it blue", seed=7, on_event=told))
                await asyncio.to_thread(running.wait, 10)
                await twin.client.close()
                outcome.extend(await asyncio.gather(task, return_exceptions=True))

            twin.wait(main())
    bfl.clear()

    assert isinstance(outcome[0], ak.DeadlineExceeded)
    assert outcome[0].handle == handles[0]
    with Twin(kind, configured(bfl)) as other:
        assert 7 == other.wait(other.wait(other.client.resume(handles[0])).wait()).seed


@pytest.mark.parametrize("call", ["check", "refresh"])
def test_a_key_that_is_slow_to_come_holds_up_no_event_loop(call: str, bfl: Emulator) -> None:
    bfl.inject("never-ends")
    with ak.Client(configured(bfl)) as client:
        job_id = client.submit(ak.ImageRequest("a cat")).id

    def slow() -> str:
        time.sleep(0.4)
        return "sandbox"

    async def main(client: ak.AsyncClient) -> float:
        job = await client.job(job_id)
        asking = asyncio.ensure_future(client.check() if call == "check" else job.refresh())  # type: ignore[arg-type]
        longest, before = 0.0, time.monotonic()
        while not asking.done():
            await asyncio.sleep(0.01)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        await asking
        return longest

    with Twin("AsyncClient", configured(bfl, api_key=slow)) as twin:
        assert twin.wait(main(twin.client)) < 0.3


def test_f67_an_async_client_belongs_to_one_event_loop(bfl: Emulator) -> None:
    client = ak.AsyncClient(configured(bfl))

    async def begin() -> Any:
        return await client.submit(ak.ImageRequest("make it blue", picture(), seed=7))

    async def go_on(use: Callable[[], Any]) -> None:
        with pytest.raises(ak.AnykontextError, match="event loop"):
            await use()

    with asyncio.Runner() as first:
        job = first.run(begin())
        for use in (job.wait, job.refresh, client.check, client.close, lambda: client.generate("a cat")):
            asyncio.run(go_on(use))
        assert 7 == first.run(job.wait()).seed
        first.run(client.close())


FORK = """
    import os, sys, warnings
    import anykontext as ak
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads

    client = ak.Client()
    job = client.submit(ak.ImageRequest("a cat", seed=7))
    ak.generate("a cat")
    child = os.fork()
    if not child:
        for use in (job.wait, job.refresh, client.check, lambda: client.generate("a cat")):
            try:
                use()
            except ak.AnykontextError as error:
                print("child:", error)
        print("child:", ak.generate("a cat", seed=8).seed, flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("parent:", status, job.wait().seed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_f66_a_client_refuses_after_a_fork_and_the_shortcuts_open_a_new_one(bfl: Emulator, tmp_path: Path) -> None:
    toml = tmp_path / "anykontext.toml"
    toml.write_text(
        f'[providers.bfl]\napi_key = "sandbox"\nbase_url = "{bfl.origins["api"]}"\npoll_interval_s = 0.02\n'
    )

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK)],
        env={**os.environ, "ANYKONTEXT_CONFIG": str(toml)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    refusal = "child: this client was made before a fork; make a new one in the child process"
    assert [refusal] * 4 + ["child: 8", "parent: 0 7"] == done.stdout.splitlines(), done.stderr


class TestJobs:
    """A submitted job in the caller's hand."""

    def test_it_is_accepted_waited_for_once_and_remembered(self, twin: Twin, bfl: Emulator) -> None:
        job = twin.submit(seed=7)

        assert ak.JobState.RUNNING is job.state
        assert not job.done
        assert (job.handle,) == job.handles
        assert Decimal("0.04") == job.at_risk.amount
        result = twin.wait(job.wait())
        assert result is twin.wait(job.wait())
        assert 7 == result.seed
        assert job.done
        assert Decimal(0) == job.at_risk.amount
        assert 1 == bfl.counters["submits"]

    def test_refresh_asks_once_and_a_failed_question_changes_nothing(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        handle = twin.submit().handle
        twin.wait(twin.client.close())
        with Twin("Client" if twin.is_sync else "AsyncClient", configured(bfl)) as other:
            self._looks(other, other.wait(other.client.resume(handle)), bfl)

    def _looks(self, twin: Twin, job: Any, bfl: Emulator) -> None:
        asked = bfl.counters["polls"]
        assert ak.JobState.RUNNING is twin.wait(job.refresh()).state
        bfl.inject("not-found-always")
        assert ak.JobState.RUNNING is twin.wait(job.refresh()).state
        bfl.clear()
        bfl.advance(60)
        assert ak.JobState.SUCCEEDED is twin.wait(job.refresh()).state
        assert job.done
        assert asked + 3 == bfl.counters["polls"]
        assert 0 == bfl.counters["downloads"]

    def test_a_moderated_one_is_found_by_a_look(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("moderated")
        job = twin.submit()

        assert ak.JobState.MODERATED is twin.wait(job.refresh()).state
        with pytest.raises(ak.Moderated):
            twin.wait(job.wait())
        assert Decimal(0) == job.at_risk.amount

    def test_a_deadline_leaves_it_running_to_be_waited_for_again(self, twin: Twin, bfl: Emulator) -> None:
        bfl.inject("never-ends")
        job = twin.submit(seed=7)
        with pytest.raises(ak.DeadlineExceeded):
            twin.wait(job.wait(deadline=0.2))
        assert not job.done
        bfl.clear()

        assert 7 == twin.wait(job.wait()).seed
        assert 1 == bfl.counters["submits"]

    @pytest.mark.parametrize("deadline", [0, -1, "soon", True])
    def test_a_deadline_is_a_number_above_0(self, twin: Twin, deadline: Any) -> None:
        job = twin.submit()
        with pytest.raises(ak.InvalidRequest, match="deadline"):
            twin.wait(job.wait(deadline=deadline))

    def test_it_is_resumed_from_its_json_by_a_client_of_the_other_kind(self, twin: Twin, bfl: Emulator) -> None:
        job = twin.submit(seed=7)

        with Twin(KINDS[twin.is_sync], configured(bfl)) as other:
            resumed = other.wait(other.client.resume(job.handle.to_json()))
            assert job.id == resumed.id
            assert 7 == other.wait(resumed.wait()).seed
        assert 1 == bfl.counters["submits"]

    def test_bfl_cannot_cancel_and_says_so(self, twin: Twin) -> None:
        job = twin.submit()
        with pytest.raises(ak.UnsupportedOption, match="cannot cancel"):
            twin.wait(job.cancel())


def test_the_limit_holds_for_submitted_jobs_too(bfl: Emulator) -> None:
    bfl.seconds = 0.5
    with Twin("Client", configured(bfl, max_in_flight=1)) as twin:
        twin.submit()
        twin.submit()

    assert 1 == bfl.tasks.active("sandbox")  # type: ignore[attr-defined]
