"""The async driver with flows of our own: what a cancellation may interrupt, what is given back and left behind."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import anykontext as ak
from anykontext.adapting import Call, InputImage, Purpose, Reply, Uploaded, get, post
from anykontext.engine.effects import Admit, All, Emit, Flow, Loss, Lost, Release, Send, Sleep, Upload
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import Address
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.spool import Spool
from anykontext.model.events import Downloading

NEWS = Downloading(job_id="job_1", provider="bfl", model="flux-kontext-pro", seconds=0.0)


def provider(url: str = "http://127.0.0.1:1", **settings: Any) -> Provider:
    config = ak.Config(providers={"bfl": {"api_key": "sandbox", "base_url": url, **settings}})
    return config.provider_list()[0]


def send(call: Call, url: str, within_s: float = 5.0, grace_s: float = 0.0) -> Send:
    return Send(call, provider(url), Address(url, signed=False, guarded=False), within_s, grace_s)


def submit(url: str, within_s: float = 5.0, grace_s: float = 5.0) -> Send:
    return send(post(Purpose.SUBMIT, "/", {"prompt": "a cat"}), url, within_s, grace_s)


@asynccontextmanager
async def driving(root: Path) -> AsyncIterator[AsyncDriver]:
    driver = AsyncDriver(Spool(root))
    yield driver
    await driver.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[AsyncDriver], Awaitable[Any]]], Any]:
    """Run a test on a loop of its own, and see that it leaves no task and no unheard exception behind."""

    def run(test: Callable[[AsyncDriver], Awaitable[Any]]) -> Any:
        complaints: list[Any] = []

        async def main() -> Any:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with driving(tmp_path / "spool") as driver, asyncio.timeout(20):
                outcome = await test(driver)
            await asyncio.sleep(0)
            gc.collect()
            assert {asyncio.current_task()} == asyncio.all_tasks()
            return outcome

        outcome = asyncio.run(main())
        assert not complaints
        return outcome

    return run


def start(driver: AsyncDriver, flow: Flow[Any], notifier: Notifier | None = None) -> asyncio.Task[Any]:
    return asyncio.ensure_future(driver.run(flow, notifier or Notifier()))


async def cancelled(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


def test_a_cancellation_ends_a_sleep_at_once_and_the_flow_goes_to_its_end(run: Any) -> None:
    done: list[str] = []

    def flow() -> Flow[None]:
        yield Sleep(60.0)
        done.append("slept")
        yield Emit(NEWS)
        done.append("told")

    async def test(driver: AsyncDriver) -> None:
        task = start(driver, flow())
        await asyncio.sleep(0.05)
        task.cancel()
        await cancelled(task)

    run(test)

    assert ["slept", "told"] == done


def test_a_cancellation_ends_a_poll_in_flight_at_once(run: Any, server: Any) -> None:
    server.answers(60.0)

    def flow() -> Flow[None]:
        yield send(get(Purpose.POLL, "/"), server.url(), within_s=60.0)

    async def test(driver: AsyncDriver) -> None:
        task = start(driver, flow())
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(2):
            await cancelled(task)

    run(test)


def test_f61_a_cancellation_waits_for_the_reply_to_a_submit_in_flight(run: Any, server: Any) -> None:
    server.answers(0.3, server.head("Content-Length: 2"), b"{}")
    heard: list[Any] = []

    def flow() -> Flow[None]:
        heard.append((yield submit(server.url())).value)

    async def test(driver: AsyncDriver) -> None:
        task = start(driver, flow())
        await asyncio.sleep(0.1)
        task.cancel()
        await cancelled(task)

    run(test)

    assert isinstance(heard[0], Reply)


def test_f61_the_grace_of_a_submit_has_an_end(run: Any, server: Any) -> None:
    server.answers(60.0)
    heard: list[Any] = []

    def flow() -> Flow[None]:
        heard.append((yield submit(server.url(), within_s=60.0, grace_s=0.2)).value)

    async def test(driver: AsyncDriver) -> None:
        task = start(driver, flow())
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(3):
            await cancelled(task)

    run(test)

    assert Loss.AFTER_SENDING is heard[0].loss


@pytest.mark.parametrize("tasks", [1, 3])
def test_f61_a_second_cancellation_lets_every_submit_in_flight_go_at_once(run: Any, server: Any, tasks: int) -> None:
    server.answers(60.0)
    heard: list[Any] = []

    def one() -> Flow[None]:
        heard.append((yield submit(server.url(), within_s=60.0, grace_s=60.0)).value)

    def flow() -> Flow[Exception]:
        if tasks == 1:
            yield from one()
        else:
            yield All(tuple(one() for _ in range(tasks)))
        return RuntimeError("outcome unknown")

    async def test(driver: AsyncDriver) -> asyncio.CancelledError:
        task = start(driver, flow())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        async with asyncio.timeout(3):
            return await cancelled(task)

    wish = run(test)

    assert [Loss.AFTER_SENDING] * tasks == [one.loss for one in heard]
    assert "outcome unknown" == str(wish.__cause__)


def test_after_a_cancellation_no_further_submit_leaves(run: Any, server: Any) -> None:
    server.replies(b"{}")
    heard: list[Any] = []

    def flow() -> Flow[None]:
        yield Sleep(60.0)
        heard.append((yield submit(server.url())).value)

    async def test(driver: AsyncDriver) -> None:
        task = start(driver, flow())
        await asyncio.sleep(0.05)
        task.cancel()
        await cancelled(task)

    run(test)

    assert Loss.INTERRUPTED is heard[0].loss
    assert [] == server.requests


def test_a_timeout_around_a_job_is_a_timeout_error(run: Any) -> None:
    def flow() -> Flow[None]:
        yield Sleep(60.0)

    async def test(driver: AsyncDriver) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await driver.run(flow(), Notifier())
        await asyncio.sleep(0.01)  # the task of the test itself is not cancelled

    run(test)


def test_a_failing_member_of_a_task_group_stops_a_job_beside_it(run: Any) -> None:
    ended: list[str] = []

    def flow() -> Flow[None]:
        yield Sleep(60.0)
        ended.append("job")

    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise KeyError("member")

    async def together(driver: AsyncDriver) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(driver.run(flow(), Notifier()))
            group.create_task(fail())

    async def test(driver: AsyncDriver) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await together(driver)
        assert [KeyError] == [type(one) for one in caught.value.exceptions]

    run(test)

    assert ["job"] == ended


def test_ctrl_c_in_asyncio_run_is_a_cancellation(tmp_path: Path) -> None:
    ended: list[str] = []

    def flow() -> Flow[None]:
        yield Sleep(60.0)
        ended.append("told")

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signal.SIGINT)
        async with driving(tmp_path) as driver:
            await driver.run(flow(), Notifier())

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
    finally:
        signal.signal(signal.SIGINT, before)

    assert ["told"] == ended


def test_all_ends_when_the_last_flow_has_ended_and_keeps_their_order(run: Any) -> None:
    def nap(seconds: float) -> Flow[float]:
        yield Sleep(seconds)
        return seconds

    def flow() -> Flow[Any]:
        return (yield All((nap(0.1), nap(0.0), nap(0.05)))).value

    async def test(driver: AsyncDriver) -> Any:
        return await driver.run(flow(), Notifier())

    assert [0.1, 0.0, 0.05] == run(test)


def test_a_failing_flow_never_ends_the_one_beside_it(run: Any) -> None:
    ended: list[str] = []

    def good() -> Flow[None]:
        yield Sleep(0.1)
        ended.append("good")

    def bad() -> Flow[None]:
        yield Sleep(0.0)
        raise KeyError("bad")

    def flow() -> Flow[None]:
        yield All((bad(), good(), bad()))

    async def test(driver: AsyncDriver) -> None:
        with pytest.raises(KeyError, match="bad"):
            await driver.run(flow(), Notifier())

    run(test)

    assert ["good"] == ended


@pytest.fixture
def narrow() -> Candidate:
    return Candidate(provider(max_in_flight=1), "flux-kontext-pro")


def hold(narrow: Candidate, seconds: float, within_s: float = 5.0) -> Flow[bool]:
    refused = (yield Admit(narrow, 1, within_s)).value
    yield Sleep(seconds)
    return refused is None


def test_a_place_is_given_back_however_a_flow_ends(run: Any, narrow: Candidate) -> None:
    def released() -> Flow[None]:
        yield Admit(narrow, 1, 0.1)
        yield Release(narrow)
        yield Release(narrow)  # twice is no harm

    def bad() -> Flow[None]:
        yield Admit(narrow, 1, 0.1)
        raise KeyError

    async def test(driver: AsyncDriver) -> bool:
        await driver.run(released(), Notifier())
        with pytest.raises(KeyError):
            await driver.run(bad(), Notifier())
        held = start(driver, hold(narrow, 60.0))
        await asyncio.sleep(0.05)
        held.cancel()
        await cancelled(held)
        return await driver.run(hold(narrow, 0.0, within_s=0.1), Notifier())

    assert run(test)


def test_a_place_is_never_lost_to_a_cancellation_at_the_moment_of_its_giving(run: Any, narrow: Candidate) -> None:
    async def test(driver: AsyncDriver) -> bool:
        for ticks in range(12):
            held = start(driver, hold(narrow, 60.0))
            waits = start(driver, hold(narrow, 60.0))
            await asyncio.sleep(0.01)
            held.cancel()
            for _ in range(ticks):  # wherever it is on its way
                await asyncio.sleep(0)
            waits.cancel()
            await cancelled(held)
            await cancelled(waits)
        return await driver.run(hold(narrow, 0.0, within_s=0.1), Notifier())

    assert run(test)


def test_a_full_candidate_is_waited_for_and_no_longer_than_asked(run: Any, narrow: Candidate) -> None:
    async def test(driver: AsyncDriver) -> Any:
        held = start(driver, hold(narrow, 0.3))
        await asyncio.sleep(0.05)
        waits = start(driver, hold(narrow, 0.0))
        impatient = await driver.run(hold(narrow, 0.0, within_s=0.05), Notifier())
        return impatient, await held, await waits

    assert (False, True, True) == run(test)


@pytest.mark.parametrize("drip", ["head", "body"])
def test_f32_an_exchange_that_drips_leaves_no_task_behind(run: Any, server: Any, drip: str) -> None:
    begun = b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if drip == "head" else b"\r\n")
    server.answers(begun, *([b"x", 0.02] * 500))

    def flow() -> Flow[Any]:
        return (yield send(get(Purpose.POLL, "/"), server.url(), within_s=0.2)).value

    async def test(driver: AsyncDriver) -> Any:
        return await driver.run(flow(), Notifier())

    assert Loss.AFTER_SENDING is run(test).loss


def test_a_closed_driver_sends_nothing_and_says_so(tmp_path: Path, server: Any) -> None:
    server.replies(b"{}")

    def polls() -> Flow[Any]:
        yield send(get(Purpose.POLL, "/"), server.url())

    def submits() -> Flow[Any]:
        return (yield submit(server.url())).value

    async def main() -> Any:
        driver = AsyncDriver(Spool(tmp_path))
        await driver.close()
        with pytest.raises(ak.AnykontextError, match="closed"):
            await driver.run(polls(), Notifier())
        return await driver.run(submits(), Notifier())

    assert Loss.INTERRUPTED is asyncio.run(main()).loss
    assert [] == server.requests


def test_whatever_an_exchange_raises_a_submit_is_lost_after_sending(
    run: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies(b"{}")
    monkeypatch.setattr("anykontext.io.drive_async.Collected", lambda *_: 1 / 0)

    def flow() -> Flow[Any]:
        return (yield submit(server.url())).value

    async def test(driver: AsyncDriver) -> Any:
        return await driver.run(flow(), Notifier())

    assert Lost(Loss.AFTER_SENDING, "ZeroDivisionError: division by zero") == run(test)


def test_a_question_within_a_submit_is_told_that_it_was_stopped_and_costs_its_sibling_nothing(
    run: Any, server: Any
) -> None:
    kept: list[Any] = []

    server.answers(60.0)

    def asks() -> Flow[Any]:
        return (yield send(get(Purpose.CHECK, "/"), server.url(), within_s=60.0)).value

    def accepted() -> Flow[str]:
        yield Sleep(0.0)
        return "task-1"

    def job() -> Flow[None]:
        kept.extend((yield All((asks(), accepted()))).value)

    async def main(driver: AsyncDriver) -> None:
        task = start(driver, job())
        await asyncio.sleep(0.1)
        task.cancel()
        await cancelled(task)

    run(main)

    assert [Loss.INTERRUPTED] == [one.loss for one in kept if isinstance(one, Lost)]
    assert "task-1" in kept


def test_a_cancelled_job_that_runs_on_is_noted_and_logged_with_its_handle(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handle = ak.JobHandle("job_1", "bfl", "bfl", "flux-kontext-pro", "edit", (ak.Task("one"),))

    def job() -> Flow[None]:
        event = ak.Submitted(job_id="job_1", provider="bfl", model="flux-kontext-pro", seconds=0.1, handle=handle)
        yield Emit(event)
        yield Sleep(30.0)
        yield Sleep(30.0)

    async def main(driver: AsyncDriver) -> asyncio.CancelledError:
        task = start(driver, job())
        await asyncio.sleep(0.05)
        task.cancel()
        return await cancelled(task)

    stop = run(main)

    assert any(handle.to_json() in note for note in stop.__notes__)
    assert any(handle.to_json() in record.getMessage() for record in caplog.records)


def test_an_upload_of_a_vendor_that_hangs_keeps_neither_the_flow_nor_the_loop(tmp_path: Path) -> None:
    hanging = threading.Event()

    def hang(*_: object) -> str:
        hanging.wait(20)
        return "https://files.example/1.png"

    def flow() -> Flow[Any]:
        told = yield Upload(InputImage(b"x", None, "image/png", 1, 1), replace(provider(), upload=hang), 0.1)
        return told.value

    async def job() -> Any:
        async with driving(tmp_path) as driver:
            return await driver.run(flow(), Notifier())

    began = time.monotonic()
    try:
        told = asyncio.run(job())
    finally:
        hanging.set()

    assert isinstance(told, Lost)
    assert time.monotonic() - began < 5


def test_an_upload_of_a_vendor_gives_its_url(run: Any) -> None:
    def flow() -> Flow[Any]:
        one = replace(provider(), upload=lambda *_: "https://files.example/1.png")
        told = yield Upload(InputImage(b"x", None, "image/png", 1, 1), one, 5.0)
        return told.value

    async def job(driver: AsyncDriver) -> Any:
        return await driver.run(flow(), Notifier())

    assert Uploaded("https://files.example/1.png") == run(job)
