"""Faults before the first byte of a request leaves: nothing is charged, and going on is safe."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import anykontext as ak
from anykontext.io import exchange

from .conftest import KEY, Ask, Twin
from .server import CLOSE, RESET, FaultServer, reply


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of new connections is full, so that a further one is not answered."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        time.sleep(0.05)
        yield address[1]
        for one in waiting:
            one.close()


def retried(asked: Any) -> int:
    return sum(isinstance(event, ak.Retrying) and event.purpose == "submit" for event in asked.events)


def test_f01_a_name_that_does_not_resolve_is_unavailable_and_free(ask: Ask) -> None:
    asked = ask(base_url="https://nonexistent.invalid")

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged
    assert asked.error.retryable


def test_f02_a_refused_connection_is_tried_again_and_free(ask: Ask, closed_port: int) -> None:
    asked = ask(base_url=f"http://127.0.0.1:{closed_port}")

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged
    assert retried(asked) >= 1


def test_f02_a_connection_that_is_not_answered_in_time_is_free(ask: Ask, full_port: int) -> None:
    asked = ask(base_url=f"http://127.0.0.1:{full_port}")

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\x00\x02", b"\x15\x03\x03\x00\x02\x02\x28"]
)
def test_f03_a_server_that_does_not_speak_tls_is_given_up_at_once(answer: bytes, ask: Ask, ears: Any) -> None:
    ears.answer = answer

    asked = ask(base_url=f"https://127.0.0.1:{ears.port}")

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged
    assert 0 == retried(asked)
    assert KEY.encode() not in ears.heard


def test_f03_a_connection_that_ends_in_the_handshake_is_free(ask: Ask, ears: Any) -> None:
    ears.answer = b""

    asked = ask(base_url=f"https://127.0.0.1:{ears.port}")

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged
    assert KEY.encode() not in ears.heard


@pytest.fixture
def ears() -> Iterator[Any]:
    """Listens to what comes, and answers it once."""
    import threading

    class Ears:
        answer = b""
        heard = b""

        def __init__(self) -> None:
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.port = self.socket.getsockname()[1]
            threading.Thread(target=self.listen, daemon=True).start()

        def listen(self) -> None:
            try:
                while True:
                    connection, _ = self.socket.accept()
                    with connection:
                        self.heard += connection.recv(65536)
                        connection.sendall(self.answer)
            except OSError:
                return

    one = Ears()
    yield one
    one.socket.close()


def test_f04_a_pool_without_a_free_connection_is_free(server: FaultServer, ask: Ask) -> None:
    limits = httpx.Limits(max_connections=0)
    clients = (lambda: httpx.Client(limits=limits), lambda: httpx.AsyncClient(limits=limits))

    asked = ask(http=clients)

    assert isinstance(asked.error, ak.Unavailable)
    assert not asked.error.maybe_charged
    assert [] == server.submits


def test_connections_are_kept_for_less_than_two_seconds() -> None:
    assert 0 < exchange.IDLE_S < 2
    assert exchange.LIMITS.keepalive_expiry == exchange.IDLE_S


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_submit_leaves_on_a_fresh_connection_when_the_pooled_one_was_idle_too_long(
    server: FaultServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = httpx.Limits(max_connections=None, keepalive_expiry=0.3)
    monkeypatch.setattr("anykontext.io.drive_sync.LIMITS", limits)
    monkeypatch.setattr("anykontext.io.drive_async.LIMITS", limits)

    with Twin(kind, server.url) as client:
        client.edit()
        client.edit()
        at_once = [one.connection for one in server.submits]
        time.sleep(0.4)
        client.edit()

    assert at_once[0] == at_once[1]
    assert server.submits[2].connection > max(at_once)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_submit_does_not_leave_on_a_connection_that_its_peer_has_closed(
    server: FaultServer, kind: str, end: Any
) -> None:
    with Twin(kind, server.url) as client:
        server.on["GET /v1/get_result"] = [(reply(server.ready()), end)]
        client.edit()
        time.sleep(0.1)
        client.edit()

    assert 2 == len(server.submits)
