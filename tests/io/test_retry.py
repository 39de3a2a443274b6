"""Quick repeats within a driver: what costs nothing, only while a provider answers now and then, and never a submit."""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import httpx
import pytest
import stamina
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

import anykontext as ak
from anykontext.adapting import Call, Purpose, Reply, get, post
from anykontext.engine.effects import All, Flow, Heard, Loss, Lost, Send
from anykontext.engine.provider import Provider
from anykontext.engine.signing import Address
from anykontext.io import exchange, retry
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.notify import Notifier
from anykontext.io.retry import Budget, mendable, repeated, wait_after
from anykontext.io.spool import Spool

Run = Callable[[Flow[Any]], Any]
FREE = [Purpose.UPLOAD, Purpose.POLL, Purpose.FETCH, Purpose.CHECK, Purpose.CANCEL]
OK = Reply(get(Purpose.POLL, "/"), 200, {}, b"{}")
LOST = Lost(Loss.AFTER_SENDING, "reset")


def provider(name: str = "bfl") -> Provider:
    config = ak.Config(providers={name: {"adapter": "bfl", "api_key": "sandbox", "base_url": "http://127.0.0.1:1"}})
    return config.provider_list()[0]


PROVIDERS = {name: provider(name) for name in ("bfl", "other")}


def send(purpose: Purpose, url: str = "http://127.0.0.1:1/", within_s: float = 5.0, name: str = "bfl") -> Send:
    call: Call = post(purpose, "/", {"a": "b"}) if purpose in {Purpose.SUBMIT, Purpose.UPLOAD} else get(purpose, "/")
    return Send(call, PROVIDERS[name], Address(url, signed=False, guarded=False), within_s, 1.0)


def one(what: Send) -> Flow[Heard]:
    return (yield what).value  # type: ignore[no-any-return]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, spool: Spool) -> Iterator[Run]:
    """Carry out flows with one driver, which stays open."""
    if request.param == "sync":
        driver = SyncDriver(spool)
        yield lambda flow: driver.run(flow, Notifier())
        driver.close()
        return
    with asyncio.Runner() as runner:
        adriver = AsyncDriver(spool)
        yield lambda flow: runner.run(adriver.run(flow, Notifier()))
        runner.run(adriver.close())


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    """Each test begins and ends with stamina's own hooks."""
    set_on_retry_hooks(None)
    yield
    set_on_retry_hooks(None)


class Script:
    """An exchange that is told what to hear; it keeps what was sent."""

    def __init__(self, *heard: Heard) -> None:
        self.heard = [*heard]
        self.sent: list[Send] = []

    def __call__(self, what: Send) -> Heard:
        self.sent.append(what)
        return self.heard.pop(0) if len(self.heard) > 1 else self.heard[0]


def repeat(script: Script, what: Send | None = None, budget: Budget | None = None, stopped: Any = None) -> Heard:
    return repeated(what or send(Purpose.POLL), script, budget or Budget(), lambda: 0.0, stopped or (lambda: False))


@pytest.mark.parametrize(("purpose", "loss"), [*product(Purpose, Loss)])
def test_only_what_costs_nothing_and_was_lost_on_the_way_may_be_repeated(purpose: Purpose, loss: Loss) -> None:
    passing = loss in {Loss.NOT_CONNECTED, Loss.NO_CONNECTION_FREE, Loss.AFTER_SENDING}

    assert (purpose in FREE and passing) is mendable(send(purpose), Lost(loss, ""))


def test_every_purpose_but_a_submit_is_repeatable() -> None:
    assert set(Purpose) - {Purpose.SUBMIT} == retry.REPEATABLE


def test_a_submit_that_comes_here_is_a_bug_and_is_not_sent() -> None:
    script = Script(OK)

    with pytest.raises(AssertionError, match="a submit is sent once"):
        repeat(script, send(Purpose.SUBMIT))

    assert [] == script.sent


def test_a_submit_whose_connection_is_reset_is_sent_once(run: Run, server: Any) -> None:
    server.answers("reset")

    heard = run(one(send(Purpose.SUBMIT, server.url())))
    time.sleep(0.3)  # longer than the first wait

    assert Loss.AFTER_SENDING is heard.loss
    assert 1 == len(server.requests)


@pytest.mark.parametrize("purpose", FREE)
def test_what_costs_nothing_is_made_again_at_once(purpose: Purpose, run: Run, server: Any) -> None:
    server.answers("reset")
    server.replies(b"{}")

    heard = run(one(send(purpose, server.url())))

    assert 200 == heard.status
    heads = [request.partition(b"\r\n\r\n")[0] for request in server.requests]
    assert [heads[0]] * 2 == heads


def test_it_is_made_three_times_at_most(run: Run, server: Any) -> None:
    server.answers("reset")

    heard = run(one(send(Purpose.POLL, server.url())))

    assert Loss.AFTER_SENDING is heard.loss
    assert 3 == len(server.requests)


def test_what_was_answered_is_left_to_the_engine(run: Run, server: Any) -> None:
    server.replies(b"{}", "Retry-After: 1", status="503 Service Unavailable")

    heard = run(one(send(Purpose.POLL, server.url())))

    assert 503 == heard.status
    assert 1 == len(server.requests)


@pytest.mark.parametrize("loss", [Loss.FORBIDDEN, Loss.CERTIFICATE, Loss.TOO_LARGE, Loss.INTERRUPTED])
def test_what_no_repeat_can_mend_is_not_repeated(loss: Loss) -> None:
    script = Script(Lost(loss, "no"))

    assert Lost(loss, "no") == repeat(script)
    assert 1 == len(script.sent)


def test_an_outage_is_not_hammered(run: Run, server: Any) -> None:
    server.answers("reset")

    def polls() -> Flow[None]:
        yield All(tuple(one(send(Purpose.POLL, server.url())) for _ in range(8)))
        for _ in range(4):
            yield send(Purpose.POLL, server.url())

    run(polls())

    assert 12 + retry.TOKENS == len(server.requests)


def test_the_outage_of_one_provider_is_not_anothers(run: Run, server: Any) -> None:
    server.answers("reset")

    def polls() -> Flow[None]:
        for name in ["bfl"] * 6 + ["other"]:
            yield send(Purpose.POLL, server.url(), name=name)

    run(polls())

    assert 6 + retry.TOKENS + 3 == len(server.requests)


def test_answers_bring_repeats_back() -> None:
    budget = Budget(tokens=2, refill=0.5)
    for _ in range(2):
        assert budget.take()
    assert not budget.take()

    for _ in range(2):
        repeat(Script(OK), budget=budget)

    assert budget.take()
    assert not budget.take()


def test_a_budget_is_never_more_than_full() -> None:
    budget = Budget(tokens=1, refill=0.5)

    for _ in range(9):
        budget.answered()

    assert [True, False] == [budget.take(), budget.take()]


def test_threads_do_not_take_more_than_there_is() -> None:
    budget, taken = Budget(tokens=500), []
    threads = [threading.Thread(target=lambda: taken.extend(budget.take() for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 500 == sum(taken)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_waits_grow_with_jitter_and_are_half_a_second_at_most(jitter: float) -> None:
    waits = [wait_after(repeat, jitter) for repeat in range(1, 6)]

    assert sorted(waits) == waits
    assert pytest.approx(0.1 * (1 + jitter)) == waits[0]
    assert 0.5 == waits[-1]


def test_a_repeat_has_what_is_left_of_the_time() -> None:
    script = Script(LOST, OK)

    assert OK == repeat(script, send(Purpose.POLL, within_s=2.0))
    assert 1.5 < script.sent[1].within_s < 1.95


def test_a_wait_that_is_longer_than_the_time_left_is_not_begun() -> None:
    script, began = Script(LOST), time.monotonic()

    assert LOST == repeat(script, send(Purpose.POLL, within_s=0.05))
    assert time.monotonic() - began < 0.05
    assert 1 == len(script.sent)


def test_an_error_of_ours_is_no_loss_and_is_not_repeated() -> None:
    def broken(_: Send) -> Heard:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        repeated(send(Purpose.POLL), broken, Budget(), lambda: 0.0, lambda: False)


def test_after_a_wish_to_stop_nothing_is_sent() -> None:
    script = Script(LOST)
    wishes = iter([False, True])

    assert LOST == repeat(script, stopped=lambda: next(wishes, True))
    assert 1 == len(script.sent)


def test_ctrl_c_ends_a_wait_at_once(spool: Spool, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "wait_after", lambda *_: 1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    server.answers("reset")
    driver = SyncDriver(spool)
    try:
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            driver.run(one(send(Purpose.POLL, server.url())), Notifier())
        assert time.monotonic() - began < 0.8
        time.sleep(1.0)
        assert 1 == len(server.requests)
    finally:
        signal.signal(signal.SIGINT, before)
        driver.close()


def test_a_cancellation_ends_a_wait_at_once(spool: Spool, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "wait_after", lambda *_: 1.0)
    server.answers("reset")

    async def main() -> float:
        driver = AsyncDriver(spool)
        polling = asyncio.ensure_future(driver.run(one(send(Purpose.POLL, server.url())), Notifier()))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        took = time.monotonic() - began
        await asyncio.sleep(1.0)
        await driver.close()
        return took

    assert asyncio.run(main()) < 0.5
    assert 1 == len(server.requests)


def test_stamina_says_nothing_of_our_repeats(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)

    repeat(Script(LOST, OK))

    assert [] == caplog.records
    assert ("", "") == capfd.readouterr()


def test_the_hooks_of_the_program_are_told_of_its_own_repeats_only() -> None:
    told: list[type[Exception]] = []
    set_on_retry_hooks([lambda details: told.append(type(details.caused_by))])
    repeat(Script(LOST, LOST, OK))
    repeat(Script(LOST, OK))

    for attempt in stamina.retry_context(on=KeyError, attempts=2, wait_initial=0, wait_jitter=0):
        with attempt:
            if attempt.num == 1:
                raise KeyError

    assert [KeyError] == told
    assert 1 == len(get_on_retry_hooks())


@pytest.mark.parametrize("off", [lambda: stamina.set_active(False), lambda: stamina.set_testing(True)])
def test_a_program_that_turns_stamina_off_still_gets_answers(off: Callable[[], None]) -> None:
    script = Script(LOST)
    try:
        off()

        assert LOST == repeat(script)
    finally:
        stamina.set_active(True)
        stamina.set_testing(False)

    assert 1 == len(script.sent)


class KeepAlive:
    """Answers requests on connections that stay open, or are closed when they were idle for a while.

    `met` has the number of the connection of each request.
    """

    def __init__(self, closes_after_s: float | None) -> None:
        self.met: list[int] = []
        self._idle_s = closes_after_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._connections.append(connection)
                threading.Thread(target=self._talk, args=(len(self._connections), connection), daemon=True).start()

    def _talk(self, number: int, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                connection.settimeout(self._idle_s if number in self.met else None)
                read = connection.recv(65536)
                connection.settimeout(1.0)
                while read and not read.endswith(b'{"a":"b"}'):
                    read += connection.recv(65536)
                if not read:
                    return
                self.met.append(number)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def close(self) -> None:
        for one in [self._socket, *self._connections]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=exchange.IDLE_S / 10)
    for driver in ("drive_sync", "drive_async"):
        monkeypatch.setattr(f"anykontext.io.{driver}.LIMITS", limits)


@pytest.mark.parametrize("closes_after_s", [None, 0.05], ids=["it stays open", "it is closed by its peer"])
@pytest.mark.usefixtures("short_idle")
def test_no_submit_goes_over_a_connection_that_was_idle(closes_after_s: float | None, run: Run) -> None:
    peer = KeepAlive(closes_after_s)
    try:
        heard = [run(one(send(Purpose.SUBMIT, peer.url)))]
        time.sleep(exchange.IDLE_S / 10 + 0.1)
        heard.append(run(one(send(Purpose.SUBMIT, peer.url))))

        assert [200, 200] == [one.status for one in heard]
        assert [1, 2] == peer.met
    finally:
        peer.close()


def test_a_connection_that_was_not_idle_is_used_again(run: Run) -> None:
    peer = KeepAlive(None)
    try:
        for _ in range(2):
            run(one(send(Purpose.SUBMIT, peer.url)))

        assert [1, 1] == peer.met
    finally:
        peer.close()


def test_idle_means_less_than_two_seconds() -> None:
    assert exchange.IDLE_S == exchange.LIMITS.keepalive_expiry
    assert 0 < exchange.IDLE_S < 2
