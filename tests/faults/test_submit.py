"""A submit that goes wrong on a real socket: what is raised, whether it may be charged, and how often it was sent."""

import gzip
import io
import os

import pytest
from PIL import Image

import anykontext as ak

from .conftest import GRACE_S, KEY, Ask
from .server import CLOSE, DRAIN, FOREVER, RESET, Drip, FaultServer, Part, Step, reply

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
DETAIL = {"detail": "no"}
DEEP = b'{"id":' + b"[" * 5000 + b"]" * 5000 + b"}"

# What the server does with the submit. After each of these it may hold the whole request, and bill it.
AMBIGUOUS: dict[str, tuple[Step, ...]] = {
    "f06_reset_after_the_full_body": (RESET,),
    "f06_closed_after_the_full_body": (CLOSE,),
    "f06_reset_in_the_middle_of_the_head": (b"HTTP/1.1 200 OK\r\nContent-Le", RESET),
    "f06_closed_in_the_middle_of_the_head": (b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE),
    "f14_500_with_a_page": (reply(HTML, status="500 Internal Server Error"),),
    "f14_502_with_a_page": (reply(HTML, status="502 Bad Gateway"),),
    "f14_504_in_the_provider_s_shape": (reply(DETAIL, status="504 Gateway Timeout"),),
    "f14_502_in_the_provider_s_shape": (reply(DETAIL, status="502 Bad Gateway"),),
    "f15_503_with_a_page": (reply(HTML, "Retry-After: 0", status="503 Service Unavailable"),),
    "f16_200_with_a_page": (reply(HTML),),
    "f16_403_with_a_page": (reply(HTML, status="403 Forbidden"),),
    "f16_429_with_a_page": (reply(HTML, "Retry-After: 0", status="429 Too Many Requests"),),
    "f16_204_with_nothing": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "f17_closed_in_the_middle_of_the_body": (reply(b'{"id": "4ca5', length=200), CLOSE),
    "f17_reset_in_the_middle_of_the_body": (reply(b'{"id": "4ca5', length=200), RESET),
    "f17_closed_in_a_body_without_a_length": (b'HTTP/1.1 200 OK\r\n\r\n{"id": "4ca5', CLOSE),
    "f17_closed_in_the_middle_of_a_chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{", CLOSE),
    "f17_a_length_that_is_too_short": (reply({"id": "4ca5b657", "polling_url": "http://x"}, length=12),),
    "f17_a_length_that_is_no_number": (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}", CLOSE),
    "f17_torn_gzip": (reply(gzip.compress(b'{"id": "1"}')[:-9], "Content-Encoding: gzip"),),
    "f17_a_coding_that_was_not_asked_for": (reply(b"\x1b\x0a\x00", "Content-Encoding: br"),),
    "f17_not_http_at_all": (b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE),
    "f19_no_task_id": (reply({"polling_url": "http://127.0.0.1/x"}),),
    "f19_an_empty_task_id": (reply({"id": "", "polling_url": "http://127.0.0.1/x"}),),
    "f19_a_list": (reply([{"id": "1"}]),),
    "f40_deep_json": (reply(DEEP),),
    "f41_not_utf8": (reply(b'{"id": "\xff\xfe"}'),),
    "f44_nan": (reply(b'{"id": NaN}'),),
    "302_to_somewhere_else": (reply(b"", "Location: http://127.0.0.1:1/v1/flux-kontext-pro", status="302 Found"),),
    "307_to_itself": (reply(b"", "Location: /v1/flux-kontext-pro", status="307 Temporary Redirect"),),
}


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_submit_that_may_have_arrived_is_unknown_and_never_sent_again(
    server: FaultServer, ask: Ask, fault: str
) -> None:
    server.on["POST"] = [AMBIGUOUS[fault]]

    asked = ask()

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert asked.error.maybe_charged
    assert not asked.error.retryable
    assert asked.error.handle is None
    assert 1 == len(server.submits)
    assert [("outcome_unknown", True)] == [(one.outcome, one.maybe_charged) for one in asked.error.attempts]


def test_f05_a_connection_reset_before_anything_was_read_is_unknown(server: FaultServer, ask: Ask) -> None:
    server.at_accept = [RESET]

    asked = ask()

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert asked.error.maybe_charged
    assert 1 == server.connections


@pytest.fixture(scope="module")
def large() -> bytes:
    """An image that no socket buffer takes at once."""
    out = io.BytesIO()
    Image.frombytes("RGB", (1200, 800), os.urandom(1200 * 800 * 3)).save(out, "PNG", compress_level=0)
    return out.getvalue()


@pytest.mark.parametrize("end", [RESET, CLOSE])
def test_f05_a_reset_in_the_middle_of_the_body_is_unknown(
    server: FaultServer, ask: Ask, large: bytes, end: Step
) -> None:
    server.on["POST"] = [(Part(1000), end)]

    asked = ask(large)

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert asked.error.maybe_charged
    assert 1 == len(server.submits)
    assert len(server.submits[0].body) < len(large)


def test_f11_a_refusal_in_the_middle_of_the_body_is_heard(server: FaultServer, ask: Ask, large: bytes) -> None:
    refusal = reply({"detail": "Not authenticated - Invalid Authentication"}, status="403 Forbidden")
    server.on["POST"] = [(Part(1000), refusal, DRAIN, CLOSE)]

    asked = ask(large)

    assert isinstance(asked.error, ak.AuthenticationFailed)
    assert not asked.error.maybe_charged
    assert 1 == len(server.submits)


SLOW: dict[str, tuple[Step, ...]] = {
    "f07_no_reply": (FOREVER,),
    "f07_silence_after_half_a_head": (b"HTTP/1.1 200 OK\r\n", FOREVER),
    "f07_silence_after_half_a_body": (reply(b"{", length=100), FOREVER),
    "f32_a_head_that_drips": (Drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 5000),),
    "f32_a_body_that_drips": (reply(b"", length=5000), Drip(b" " * 5000)),
    "f32_interim_replies_without_end": (*(part for _ in range(200) for part in (b"HTTP/1.1 103 Hi\r\n\r\n", 0.02)),),
}


@pytest.mark.parametrize("fault", SLOW)
def test_a_submit_is_waited_for_until_the_deadline_and_the_grace_and_no_longer(
    server: FaultServer, ask: Ask, fault: str
) -> None:
    server.on["POST"] = [SLOW[fault]]

    asked = ask(deadline=0.1)

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert asked.error.maybe_charged
    assert 1 == len(server.submits)
    assert 0.1 + GRACE_S <= asked.seconds < 2.0


def test_f07_a_reply_within_the_grace_is_not_lost(server: FaultServer, ask: Ask) -> None:
    server.on["POST"] = [(0.15, reply(server.accepted()))]
    server.on["GET /v1"] = [(FOREVER,)] * 10

    asked = ask(deadline=0.1)

    assert isinstance(asked.error, ak.DeadlineExceeded)
    assert asked.error.handle is not None
    assert [asked.error.handle] == [event.handle for event in asked.events if isinstance(event, ak.Submitted)]
    assert 1 == len(server.submits)


def test_f39_a_huge_reply_is_cut_off_and_unknown(
    server: FaultServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykontext.io.exchange.REPLY_MAX", 64 * 1024)
    server.on["POST"] = [(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 4096] * 1000, CLOSE)]

    asked = ask()

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert asked.error.maybe_charged
    assert 1 == len(server.submits)


def test_f35_a_compressed_reply_is_bounded_after_inflating(
    server: FaultServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykontext.io.exchange.REPLY_MAX", 64 * 1024)
    server.on["POST"] = [(reply(gzip.compress(b" " * 10_000_000), "Content-Encoding: gzip"),)]

    asked = ask()

    assert isinstance(asked.error, ak.OutcomeUnknown)
    assert 1 == len(server.submits)


UNDERSTOOD: dict[str, tuple[str, ...]] = {
    "in_gzip": ("Content-Encoding: gzip",),
    "after_an_interim_reply": (),
    "with_more_bytes_than_announced": (),
}


@pytest.mark.parametrize("how", UNDERSTOOD)
def test_an_unusual_reply_is_understood_all_the_same(server: FaultServer, ask: Ask, how: str) -> None:
    plain = reply(server.accepted())
    script: dict[str, tuple[Step, ...]] = {
        "in_gzip": (reply(gzip.compress(plain.partition(b"\r\n\r\n")[2]), "Content-Encoding: gzip"),),
        "after_an_interim_reply": (b"HTTP/1.1 103 Early Hints\r\n\r\n", plain),
        "with_more_bytes_than_announced": (plain + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",),
    }
    server.on["POST"] = [script[how]]

    assert 42 == ask().result.seed
    assert 1 == len(server.submits)
    assert KEY == server.submits[0].headers["x-key"]


def detail(status: str, *headers: str) -> tuple[Step, ...]:
    return (reply(DETAIL, *headers, status=status),)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(detail("401 Unauthorized"), ak.AuthenticationFailed, id="f11_401"),
        pytest.param(detail("403 Forbidden"), ak.AuthenticationFailed, id="f11_403"),
        pytest.param(detail("402 Payment Required"), ak.OutOfCredit, id="f12_402"),
        pytest.param(detail("422 Unprocessable Entity"), ak.RequestRejected, id="f13_422"),
        pytest.param(detail("429 Too Many", "Retry-After: 30"), ak.RateLimited, id="f08_429_that_asks_for_too_long"),
        pytest.param(
            detail("429 Too Many", "Date: Thu, 18 Dec 2025 15:39:07 GMT", "Retry-After: Thu, 18 Dec 2025 15:40:07 GMT"),
            ak.RateLimited,
            id="f09_429_with_a_date",
        ),
    ],
)
def test_a_refusal_is_not_charged_and_not_repeated(
    server: FaultServer, ask: Ask, script: tuple[Step, ...], error: type[ak.ProviderError]
) -> None:
    server.on["POST"] = [script]

    asked = ask()

    assert error is type(asked.outcome)
    assert not asked.error.maybe_charged
    assert 1 == len(server.submits)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(detail("429 Too Many Requests", "Retry-After: 0"), id="f08_429_with_retry_after"),
        pytest.param(detail("429 Too Many Requests"), id="f10_429_without_retry_after"),
        pytest.param(detail("503 Service Unavailable"), id="f15_a_documented_503"),
        pytest.param(detail("500 Internal Server Error"), id="f15_a_documented_500"),
    ],
)
def test_a_submit_that_was_surely_not_accepted_is_sent_again(
    server: FaultServer, ask: Ask, script: tuple[Step, ...]
) -> None:
    server.on["POST"] = [script, script]

    asked = ask()

    assert 42 == asked.result.seed
    assert 3 == len(server.submits)
    assert ["submit", "submit"] == [event.purpose for event in asked.events if isinstance(event, ak.Retrying)]
    assert [("succeeded", True)] == [(one.outcome, one.maybe_charged) for one in asked.result.attempts]


@pytest.mark.parametrize(
    ("status", "error"), [("429 Too Many Requests", ak.RateLimited), ("503 Service Unavailable", ak.Unavailable)]
)
def test_f08_patience_with_a_provider_that_asks_for_no_wait_has_an_end(
    server: FaultServer, ask: Ask, status: str, error: type[ak.ProviderError]
) -> None:
    server.on["POST"] = [detail(status, "Retry-After: 0")] * 1000

    asked = ask(deadline=5)

    assert error is type(asked.outcome)
    assert not asked.error.maybe_charged
    assert 2 <= len(server.submits) <= 20
