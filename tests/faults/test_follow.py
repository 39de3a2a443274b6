"""Polls and downloads that go wrong on a real socket: asking again is free, and the submit is never repeated."""

import gzip

import pytest

import anykontext as ak

from .conftest import KEY, Ask
from .server import CLOSE, FOREVER, RESET, SIGNATURE, TASK, Drip, FaultServer, Step, jpeg, reply

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
POLL, DOWNLOAD = "GET /v1/get_result", "GET /sample"

PASSING: dict[str, tuple[Step, ...]] = {
    "f22_reset_before_the_reply": (RESET,),
    "f22_closed_before_the_reply": (CLOSE,),
    "f22_closed_in_the_middle_of_the_head": (b"HTTP/1.1 200 OK\r\nCont", CLOSE),
    "f22_closed_in_the_middle_of_the_body": (reply(b'{"status": "Rea', length=90), CLOSE),
    "f22_500_in_the_provider_s_shape": (reply({"detail": "Internal Server Error"}, status="500 Internal"),),
    "f22_502_with_a_page": (reply(HTML, status="502 Bad Gateway"),),
    "f16_200_with_a_page": (reply(HTML),),
    "f17_truncated_json": (reply(b'{"status": "Ready", "result": {'),),
    "f17_torn_gzip": (reply(gzip.compress(b"{}" * 400)[:-9], "Content-Encoding: gzip"),),
    "f20_not_found_just_after_the_submit": (reply({"id": TASK, "status": "Task not found"}, status="404 Not Found"),),
    "f27_ready_without_a_url": (reply({"id": TASK, "status": "Ready", "result": None}),),
    "f40_deep_json": (reply(b"[" * 100_000),),
    "429_without_a_wait": (reply({"detail": "slow down"}, "Retry-After: 0", status="429 Too Many Requests"),),
    "302_to_somewhere_else": (reply(b"", "Location: http://127.0.0.1:1/", status="302 Found"),),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_poll_that_fails_twice_is_asked_again_and_the_image_arrives(
    server: FaultServer, ask: Ask, fault: str
) -> None:
    server.on[POLL] = [PASSING[fault]] * 2

    asked = ask()

    assert 42 == asked.result.seed
    assert 3 == len(server.got("GET", "/v1/get_result"))
    assert 1 == len(server.submits)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param((reply(HTML),), ak.ProtocolError, id="f16_a_page"),
        pytest.param((reply(b"", "Location: /", status="302 Found"),), ak.ProtocolError, id="302"),
        pytest.param((reply({"detail": "no"}, status="403 Forbidden"),), ak.AuthenticationFailed, id="f11_403"),
        pytest.param(
            (reply({"id": TASK, "status": "Task not found"}, status="404 Not Found"),), ak.JobNotFound, id="f21_404"
        ),
    ],
)
def test_polls_that_are_never_understood_end_with_the_handle(
    server: FaultServer, ask: Ask, script: tuple[Step, ...], error: type[ak.ProviderError]
) -> None:
    server.on[POLL] = [script] * 100

    asked = ask()

    assert error is type(asked.outcome)
    assert asked.error.maybe_charged
    assert asked.error.handle is not None
    assert TASK == asked.error.handle.tasks[0].id
    assert 1 == len(server.submits)
    assert len(server.got("GET", "/v1/get_result")) <= 6


ENDLESS: dict[str, tuple[str, tuple[Step, ...]]] = {
    "f28_polls_that_are_not_answered": (POLL, (FOREVER,)),
    "f32_the_head_of_a_poll_drips": (POLL, (Drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 5000),)),
    "f32_the_body_of_a_poll_drips": (POLL, (reply(b"", length=5000), Drip(b" " * 5000))),
    "f22_polls_that_are_reset": (POLL, (RESET,)),
    "f32_a_download_that_is_not_answered": (DOWNLOAD, (FOREVER,)),
    "f32_the_head_of_a_download_drips": (DOWNLOAD, (Drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 5000),)),
    "f32_the_body_of_a_download_drips": (DOWNLOAD, (reply(b"", length=5000), Drip(jpeg() + b" " * 5000))),
    "f29_downloads_that_are_reset": (DOWNLOAD, (RESET,)),
}


@pytest.mark.parametrize("fault", ENDLESS)
def test_the_deadline_holds_over_everything_and_leaves_the_handle(server: FaultServer, ask: Ask, fault: str) -> None:
    where, script = ENDLESS[fault]
    server.on[where] = [script] * 1000

    asked = ask(deadline=0.2)

    assert isinstance(asked.error, ak.DeadlineExceeded)
    assert asked.error.maybe_charged
    assert asked.error.handle is not None
    assert 1 == len(server.submits)
    assert asked.seconds < 2.0


def test_f39_a_huge_poll_is_cut_off_and_asked_again(
    server: FaultServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykontext.io.exchange.REPLY_MAX", 64 * 1024)
    server.on[POLL] = [(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 4096] * 1000, CLOSE)]

    assert 42 == ask().result.seed


@pytest.mark.parametrize(
    "script",
    [
        pytest.param((RESET,), id="f29_reset"),
        pytest.param((reply(jpeg()[:200], length=len(jpeg())), CLOSE), id="f29_cut_with_a_length"),
        pytest.param((b"HTTP/1.1 200 OK\r\n\r\n" + jpeg()[:200], CLOSE), id="f30_cut_without_a_length"),
        pytest.param((reply(HTML, status="503 Service Unavailable"),), id="f22_503"),
        pytest.param((reply(HTML, "Content-Type: image/jpeg"),), id="f33_a_page_that_calls_itself_an_image"),
        pytest.param((reply(b"no", status="403 Forbidden"),), id="f31_expired_and_renewed_by_a_poll"),
    ],
)
def test_a_download_that_fails_once_is_fetched_again(server: FaultServer, ask: Ask, script: tuple[Step, ...]) -> None:
    server.on[DOWNLOAD] = [script]

    asked = ask()

    assert jpeg() == asked.result.image.data
    assert 2 == len(server.got("GET", "/sample"))
    assert 1 == len(server.submits)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param((reply(b"no", status="404 Not Found"),), ak.ResultExpired, id="f31_expired"),
        pytest.param((reply(HTML),), ak.ProtocolError, id="f33_a_page"),
        pytest.param((reply(jpeg()[:-200]),), ak.ProtocolError, id="f37_corrupt"),
    ],
)
def test_an_image_that_cannot_be_had_was_paid_for_and_leaves_the_handle(
    server: FaultServer, ask: Ask, script: tuple[Step, ...], error: type[ak.ProviderError]
) -> None:
    server.on[DOWNLOAD] = [script] * 10

    asked = ask()

    assert error is type(asked.outcome)
    assert asked.error.maybe_charged
    assert asked.error.handle is not None
    assert SIGNATURE not in asked.told()
    assert 1 == len(server.submits)


def test_the_key_goes_to_the_api_and_its_polls_and_never_to_a_download(server: FaultServer, ask: Ask) -> None:
    ask()

    assert {KEY} == {one.headers.get("x-key") for one in (*server.submits, *server.got("GET", "/v1/get_result"))}
    assert [None] == [one.headers.get("x-key") for one in server.got("GET", "/sample")]


def test_a_polling_url_of_a_stranger_is_asked_without_the_key(
    server: FaultServer, stranger: FaultServer, ask: Ask
) -> None:
    server.on["POST"] = [(reply({"id": TASK, "polling_url": f"{stranger.url}/v1/get_result?id={TASK}"}),)]

    assert 42 == ask().result.seed
    assert stranger.got("GET", "/v1/get_result")
    assert KEY not in repr(stranger.requests)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("where", ["POST", POLL, DOWNLOAD])
def test_the_key_follows_no_redirect(
    server: FaultServer, stranger: FaultServer, ask: Ask, where: str, status: str
) -> None:
    server.on[where] = [(reply(b"", f"Location: {stranger.url}/sample.jpeg", status=status),)]

    asked = ask()

    assert KEY not in repr(stranger.requests)
    assert (where == DOWNLOAD) == bool(stranger.requests)
    assert isinstance(asked.outcome, ak.OutcomeUnknown if where == "POST" else ak.ImageResult)
    assert 1 == len(server.submits)
