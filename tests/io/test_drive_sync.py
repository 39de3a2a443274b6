"""The sync driver with flows of our own: what Ctrl-C may interrupt, what a thread may cost, what is given back."""

import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import anykontext as ak
from anykontext.adapting import Call, Purpose, Reply, get, post
from anykontext.engine.effects import Admit, All, Download, Emit, Flow, Loss, Lost, Release, Send, Sleep
from anykontext.engine.provider import Candidate, Provider
from anykontext.engine.signing import Address
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.spool import Spool
from anykontext.model.events import Downloading

from .conftest import RESET

who: ContextVar[str] = ContextVar("who", default="nobody")
NEWS = Downloading(job_id="job_1", provider="bfl", model="flux-kontext-pro", seconds=0.0)


def provider(url: str = "http://127.0.0.1:1", **settings: Any) -> Provider:
    config = ak.Config(providers={"bfl": {"api_key": "sandbox", "base_url": url, **settings}})
    return config.provider_list()[0]


def send(call: Call, url: str, within_s: float = 5.0, grace_s: float = 0.0) -> Send:
    return Send(call, provider(url), Address(url, signed=False, guarded=False), within_s, grace_s)


def submit(url: str, within_s: float = 5.0, grace_s: float = 5.0) -> Send:
    return send(post(Purpose.SUBMIT, "/", {"prompt": "a cat"}), url, within_s, grace_s)


@pytest.fixture
def driver(spool: Spool) -> Iterator[SyncDriver]:
    one = SyncDriver(spool)
    yield one
    one.close()


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the main thread, as in a program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def seconds() -> Any:
    began = time.monotonic()
    return lambda: time.monotonic() - began


def press_ctrl_c(after_s: float = 0.0) -> None:
    threading.Timer(after_s, signal.raise_signal, [signal.SIGINT]).start()


def test_a_flow_is_told_the_value_and_the_time_of_each_effect(driver: SyncDriver) -> None:
    def flow() -> Flow[Any]:
        first = yield Sleep(0.0)
        second = yield Sleep(0.05)
        return first, second

    first, second = driver.run(flow(), Notifier())

    assert first.value is None
    assert second.mono - first.mono >= 0.05
    assert second.wall > first.wall
    assert 0 <= first.jitter <= 1


def test_an_error_of_a_flow_is_the_error_of_run(driver: SyncDriver) -> None:
    def flow() -> Flow[None]:
        yield Sleep(0.0)
        raise KeyError("found")

    with pytest.raises(KeyError, match="found"):
        driver.run(flow(), Notifier())


def test_ctrl_c_never_falls_into_the_middle_of_a_flow(driver: SyncDriver) -> None:
    done: list[str] = []

    def flow() -> Flow[None]:
        yield Sleep(0.0)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)  # long enough for it to be raised, where it can be
        done.append("the reply was read")
        yield Emit(NEWS)
        done.append("the handle was told")
        yield Sleep(60.0)
        done.append("it went on to its end")

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert ["the reply was read", "the handle was told", "it went on to its end"] == done


def test_ctrl_c_ends_a_sleep_at_once(driver: SyncDriver, seconds: Any) -> None:
    def flow() -> Flow[None]:
        press_ctrl_c(0.05)
        yield Sleep(60.0)

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert seconds() < 2.0


def test_whatever_a_signal_handler_raises_is_a_wish_to_stop(driver: SyncDriver) -> None:
    class SoftTimeLimit(Exception):
        pass

    def handler(*_: object) -> None:
        raise SoftTimeLimit

    ended: list[bool] = []

    def flow() -> Flow[None]:
        press_ctrl_c(0.05)
        yield Sleep(60.0)
        ended.append(True)

    signal.signal(signal.SIGINT, handler)
    with pytest.raises(SoftTimeLimit):
        driver.run(flow(), Notifier())

    assert [True] == ended


def test_ctrl_c_ends_a_poll_in_flight_at_once(driver: SyncDriver, server: Any, seconds: Any) -> None:
    server.answers(60.0)

    def flow() -> Flow[None]:
        press_ctrl_c(0.05)
        yield send(get(Purpose.POLL, "/"), server.url())

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert seconds() < 2.0


def test_ctrl_c_waits_for_the_reply_to_a_submit_in_flight(driver: SyncDriver, server: Any) -> None:
    server.answers(0.4, server.head("Content-Length: 2"), b"{}")
    heard: list[Any] = []

    def flow() -> Flow[None]:
        press_ctrl_c(0.05)
        heard.append((yield submit(server.url())).value)

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert isinstance(heard[0], Reply)


def test_a_second_ctrl_c_lets_a_submit_in_flight_go_and_says_so(driver: SyncDriver, server: Any, seconds: Any) -> None:
    server.answers(60.0)

    def flow() -> Flow[Exception]:
        press_ctrl_c(0.05)
        press_ctrl_c(0.3)
        heard = (yield submit(server.url(), within_s=60.0, grace_s=60.0)).value
        return RuntimeError(heard.loss)

    with pytest.raises(KeyboardInterrupt) as caught:
        driver.run(flow(), Notifier())

    assert Loss.AFTER_SENDING in caught.value.__cause__.args  # type: ignore[union-attr]
    assert seconds() < 3.0


def test_a_third_ctrl_c_does_not_wait_for_a_flow_that_hangs(driver: SyncDriver, seconds: Any) -> None:
    free = threading.Event()

    def flow() -> Flow[None]:
        for after_s in (0.05, 0.2, 0.35):
            press_ctrl_c(after_s)
        yield Sleep(0.0)
        free.wait(20.0)

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    free.set()
    assert seconds() < 3.0


def test_after_ctrl_c_no_further_submit_leaves(driver: SyncDriver, server: Any) -> None:
    server.replies(b"{}")
    heard: list[Any] = []

    def flow() -> Flow[None]:
        press_ctrl_c()
        yield Sleep(60.0)
        heard.append((yield submit(server.url())).value)

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert Loss.INTERRUPTED is heard[0].loss
    assert [] == server.requests


def test_all_ends_when_the_last_flow_has_ended_and_keeps_their_order(driver: SyncDriver) -> None:
    def nap(seconds: float) -> Flow[float]:
        yield Sleep(seconds)
        return seconds

    def flow() -> Flow[Any]:
        return (yield All((nap(0.2), nap(0.0), nap(0.1)))).value

    assert [0.2, 0.0, 0.1] == driver.run(flow(), Notifier())


def test_a_failing_flow_never_ends_the_one_beside_it(driver: SyncDriver) -> None:
    ended: list[str] = []

    def good() -> Flow[None]:
        yield Sleep(0.2)
        ended.append("good")

    def bad() -> Flow[None]:
        yield Sleep(0.0)
        raise KeyError("bad")

    def flow() -> Flow[None]:
        yield All((bad(), good()))

    with pytest.raises(KeyError, match="bad"):
        driver.run(flow(), Notifier())

    assert ["good"] == ended


def test_where_no_thread_can_be_started_the_job_is_done_without(
    driver: SyncDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def nap(number: int) -> Flow[int]:
        yield Sleep(0.0)
        return number

    def flow() -> Flow[Any]:
        return (yield All((nap(1), nap(2)))).value

    monkeypatch.setattr(threading.Thread, "start", start)

    assert [1, 2] == driver.run(flow(), Notifier())


def test_the_caller_s_context_is_that_of_its_events(driver: SyncDriver) -> None:
    seen: list[str] = []

    def inner() -> Flow[None]:
        yield Emit(NEWS)

    def flow() -> Flow[None]:
        yield Emit(NEWS)
        yield All((inner(), inner()))

    token = who.set("me")
    try:
        driver.run(flow(), Notifier(lambda _: seen.append(who.get())))
    finally:
        who.reset(token)

    assert ["me", "me", "me"] == seen


@pytest.fixture
def narrow() -> Candidate:
    return Candidate(provider(max_in_flight=1), "flux-kontext-pro")


def test_a_place_is_given_back_however_a_flow_ends(driver: SyncDriver, narrow: Candidate) -> None:
    def good() -> Flow[bool]:
        refused = (yield Admit(narrow, 1, 0.1)).value
        yield Release(narrow)
        yield Release(narrow)  # twice is no harm
        return refused is None

    def bad() -> Flow[None]:
        yield Admit(narrow, 1, 0.1)
        raise KeyError

    assert driver.run(good(), Notifier())
    with pytest.raises(KeyError):
        driver.run(bad(), Notifier())
    assert driver.run(good(), Notifier())


def test_a_full_candidate_is_waited_for_and_no_longer_than_asked(driver: SyncDriver, narrow: Candidate) -> None:
    def inner(within_s: float) -> Flow[bool]:
        return (yield Admit(narrow, 1, within_s)).value is None

    def flow() -> Flow[Any]:
        yield Admit(narrow, 1, 0.1)
        refused = (yield All((inner(0.0), inner(0.15)))).value
        yield Release(narrow)
        return refused, (yield All((inner(0.0),))).value

    assert ([False, False], [True]) == driver.run(flow(), Notifier())


def test_ctrl_c_ends_the_wait_for_a_place(driver: SyncDriver, narrow: Candidate, seconds: Any) -> None:
    def inner() -> Flow[None]:
        press_ctrl_c(0.05)
        yield Admit(narrow, 1, 60.0)

    def flow() -> Flow[None]:
        yield Admit(narrow, 1, 0.1)
        yield All((inner(),))

    with pytest.raises(KeyboardInterrupt):
        driver.run(flow(), Notifier())

    assert seconds() < 2.0


@pytest.mark.parametrize("drip", ["head", "body"])
def test_f32_an_exchange_that_drips_leaves_no_thread_behind(driver: SyncDriver, server: Any, drip: str) -> None:
    begun = b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if drip == "head" else b"\r\n")
    server.answers(begun, *([b"x", 0.02] * 500))

    def flow() -> Flow[Any]:
        return (yield send(get(Purpose.POLL, "/"), server.url(), within_s=0.2)).value

    heard = driver.run(flow(), Notifier())

    assert isinstance(heard, Lost)
    assert Loss.AFTER_SENDING is heard.loss
    assert within(2.0, lambda: "anykontext" not in {thread.name for thread in threading.enumerate()})


def within(seconds: float, what: Any) -> bool:
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_a_closed_driver_sends_nothing_and_says_so(spool: Spool, server: Any) -> None:
    server.replies(b"{}")
    driver = SyncDriver(spool)
    driver.close()

    def polls() -> Flow[Any]:
        yield send(get(Purpose.POLL, "/"), server.url())

    def submits() -> Flow[Any]:
        return (yield submit(server.url())).value

    with pytest.raises(ak.AnykontextError, match="closed"):
        driver.run(polls(), Notifier())
    assert Loss.INTERRUPTED is driver.run(submits(), Notifier()).loss
    assert [] == server.requests


def test_a_flow_that_hangs_in_a_strangers_code_holds_the_close_for_a_moment_only(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykontext.io.stopping.LEAVE_S", 0.2)
    driver, go_on, there = SyncDriver(spool), threading.Event(), threading.Event()

    def flow() -> Flow[None]:
        there.set()
        go_on.wait(20)
        yield Sleep(0.0)

    running = driver.begin(flow(), Notifier())
    running._box.start()
    assert there.wait(5)
    began = time.monotonic()
    driver.close()
    waited = time.monotonic() - began
    go_on.set()

    assert 0.2 <= waited < 2
    assert running.done.wait(5)


def test_an_image_that_can_be_fetched_only_once_is_tried_again_after_a_wish_to_stop_but_not_in_a_rush(
    spool: Spool, server: Any
) -> None:
    server.answers(RESET)
    tries = 0

    def flow() -> Flow[None]:
        nonlocal tries
        yield submit(server.url("/submit"), grace_s=0.6)
        while True:
            tries += 1
            yield Sleep(0.05)
            yield Download(server.url(), provider(server.url("")), 5.0, last_chance=True)

    driver = SyncDriver(spool)
    running = driver.begin(flow(), Notifier())
    running._box.start()
    assert within(5, lambda: tries > 1)
    asked, began = tries, time.monotonic()
    driver.close()

    assert time.monotonic() - began < 3
    assert tries - asked <= 5
    assert running.done.wait(5)


def test_whatever_an_exchange_raises_a_submit_is_lost_after_sending(
    driver: SyncDriver, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies(b"{}")
    monkeypatch.setattr("anykontext.io.drive_sync.Collected", lambda *_: 1 / 0)

    def flow() -> Flow[Any]:
        return (yield submit(server.url())).value

    heard = driver.run(flow(), Notifier())

    assert Lost(Loss.AFTER_SENDING, "ZeroDivisionError: division by zero") == heard
