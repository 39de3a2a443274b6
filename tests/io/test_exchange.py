"""What the two drivers share: the request that leaves, the reply that is let in, and the name of a loss."""

import gzip
import ssl
import zlib
from collections.abc import Mapping
from typing import Any

import httpcore
import httpx
import pytest
from pydantic import SecretStr

import anykontext as ak
from anykontext.adapting import Call, InputImage, Kind, Purpose, Refused, Reply, Uploaded, get, post
from anykontext.engine.effects import Loss, Lost, Send, Upload
from anykontext.engine.provider import Provider
from anykontext.engine.signing import Address
from anykontext.io import exchange
from anykontext.io.addresses import Forbidden
from anykontext.io.exchange import Collected, chunks_of, headers_of, lost, request_of, uploaded, without_key

KEY = "bfl_0123456789abcdef"
URL = "https://api.bfl.ai/v1/flux-kontext-pro"


def provider(key: Any = KEY) -> Provider:
    return ak.Config(providers={"bfl": {"api_key": key}}).provider_list()[0]


def send(call: Call | None = None, *, url: str = URL, signed: bool = True, key: Any = KEY) -> Send:
    call = call or post(Purpose.SUBMIT, "/v1/flux-kontext-pro", {"prompt": "a cat"})
    return Send(call, provider(key), Address(url, signed=signed, guarded=False), 60.0)


def collected(body: bytes, headers: Mapping[str, str] | None = None, key: str | None = KEY) -> Reply | Lost:
    found = Collected(send(), 200, headers or {}, key)
    found.add(body)
    return found.heard()


@pytest.mark.parametrize("used", [None, "bfl_new_0123456789"])
def test_a_reply_echoes_none_of_the_keys_that_were_used_before_it(used: str | None) -> None:
    keys = iter(["bfl_old+0123456789", "bfl_new_0123456789"])
    asked = send(key=lambda: next(keys))
    key: Any = asked.provider.key
    key.renew(key())
    echo = "bfl_old+0123456789 BFL_OLD+0123456789 bfl_old%2B0123456789 bfl_new_0123456789"
    found = Collected(asked, 200, {"X-Echo": echo}, used)
    found.add(echo.encode())
    heard = found.heard()

    assert isinstance(heard, Reply)
    assert ["[key] [key] [key] [key]"] * 2 == [heard.body.decode(), heard.headers["x-echo"]]


def test_a_request_carries_our_headers_and_nothing_of_the_http_library() -> None:
    request, key = request_of(send(), chunks_of(send()))

    assert KEY == key
    assert {
        "host": "api.bfl.ai",
        "user-agent": exchange.USER_AGENT,
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "18",
        "x-key": KEY,
    } == dict(request.headers)


def test_a_call_that_is_not_signed_has_no_key() -> None:
    headers, key = headers_of(send(get(Purpose.POLL, "https://other.example/x", origin=None), signed=False))

    assert key is None
    assert KEY not in repr(headers)


def test_a_url_of_a_reply_is_asked_byte_for_byte() -> None:
    url = "https://api.eu4.bfl.ai/v1/get_result?id=a%2Fb+c&sig=%2B%3d~"
    request, _ = request_of(send(get(Purpose.POLL, url, origin=None), url=url), None)

    assert b"/v1/get_result?id=a%2Fb+c&sig=%2B%3d~" == request.extensions.get("target", request.url.raw_path)


def test_the_single_steps_are_limited_by_the_whole() -> None:
    timeout = request_of(send(), None)[0].extensions["timeout"]

    assert {"connect": exchange.CONNECT_S, "pool": exchange.CONNECT_S, "read": 60.0, "write": 60.0} == timeout


@pytest.mark.parametrize("key", ["", "two\nlines", "\u20ac", "a b"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_built(key: str) -> None:
    with pytest.raises(ak.ConfigurationError) as caught:
        request_of(send(key=lambda: key), None)

    assert not key.strip() or key not in str(caught.value)


CHAIN = httpx.ConnectError("handshake")
CHAIN.__cause__ = httpcore.ConnectError("handshake")
CHAIN.__cause__.__cause__ = ssl.SSLError("unknown protocol")


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), Loss.NOT_CONNECTED),
        (httpx.ConnectTimeout(""), Loss.NOT_CONNECTED),
        (httpx.ProxyError("407"), Loss.NOT_CONNECTED),
        (ak.MissingKey("api_key() raised"), Loss.NOT_CONNECTED),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), Loss.CERTIFICATE),
        (CHAIN, Loss.CERTIFICATE),
        (httpx.PoolTimeout(""), Loss.NO_CONNECTION_FREE),
        (httpx.UnsupportedProtocol("ftp"), Loss.FORBIDDEN),
        (httpx.InvalidURL("no"), Loss.FORBIDDEN),
        (Forbidden("private"), Loss.FORBIDDEN),
        (RuntimeError("Cannot send a request, as the client has been closed."), Loss.INTERRUPTED),
        (httpx.WriteError(""), Loss.AFTER_SENDING),
        (httpx.WriteTimeout(""), Loss.AFTER_SENDING),
        (httpx.ReadError(""), Loss.AFTER_SENDING),
        (httpx.ReadTimeout(""), Loss.AFTER_SENDING),
        (httpx.RemoteProtocolError("Server disconnected"), Loss.AFTER_SENDING),
        (httpx.LocalProtocolError("too much data"), Loss.AFTER_SENDING),
        (httpx.DecodingError("gzip"), Loss.AFTER_SENDING),
        (ConnectionResetError(104, "Connection reset by peer"), Loss.AFTER_SENDING),
        (RuntimeError("anything else"), Loss.AFTER_SENDING),
        (KeyError("anything else"), Loss.AFTER_SENDING),
    ],
)
def test_a_loss_is_named_by_what_the_provider_may_have_seen(error: Exception, loss: Loss) -> None:
    assert loss is lost(error).loss


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", " deflate "])
def test_a_compressed_reply_is_inflated(coding: str) -> None:
    packed = zlib.compress(b"{}") if "deflate" in coding else gzip.compress(b"{}")

    reply = collected(packed, {"Content-Encoding": coding})

    assert isinstance(reply, Reply)
    assert b"{}" == reply.body


@pytest.mark.parametrize(
    "packed",
    [b"", b"no gzip", gzip.compress(b"{}" * 900)[:-9], gzip.compress(b" " * 100_000)],
    ids=["empty", "not packed", "torn", "too large"],  # gzip writes the time: workers would disagree on the names
)
def test_f35_a_compressed_reply_that_is_torn_or_too_large_is_lost(
    packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "REPLY_MAX", 10_000)

    heard = collected(packed, {"content-encoding": "gzip"})

    assert isinstance(heard, Lost)
    assert Loss.TOO_LARGE is heard.loss


def test_f39_a_reply_is_too_large_as_soon_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "REPLY_MAX", 10)
    found = Collected(send(), 200, {}, None)

    assert found.add(b"x" * 10)
    assert not found.add(b"x")
    assert isinstance(found.heard(), Lost)


def test_an_echo_of_the_key_is_cut_out_of_body_and_headers() -> None:
    reply = collected(f"<{KEY}>".encode(), {"X-Echo": f"x-key={KEY}"})

    assert isinstance(reply, Reply)
    assert b"<[key]>" == reply.body
    assert {"x-echo": "x-key=[key]"} == reply.headers


def test_a_short_key_is_not_cut_out_since_it_may_be_a_word() -> None:
    reply = collected(b"the sandbox says", key="sandbox")

    assert isinstance(reply, Reply)
    assert b"the sandbox says" == reply.body


def test_an_upload_of_a_vendor_may_raise_anything() -> None:
    image = InputImage("photo.png", "image/png", b"", None, 1, 1)

    def broken(*_: object) -> str:
        raise KeyError("vendor")

    def uploads(how: Any) -> Upload:
        one = provider()
        return Upload(image, Provider(one.name, one.adapter, one.origins, one.key, upload=how), 5.0)

    def leaking(_: object, key: SecretStr, *__: object) -> str:
        raise RuntimeError(f"401 for {key.get_secret_value()}")

    refused = Refused(Kind.AUTHENTICATION_FAILED, "no such key")

    assert Uploaded("https://x.example/1") == uploaded(uploads(lambda *_: "https://x.example/1"))
    assert refused == uploaded(uploads(lambda *_: refused))
    assert Kind.PROTOCOL_ERROR is uploaded(uploads(lambda *_: None)).kind  # type: ignore[union-attr]
    assert Loss.AFTER_SENDING is uploaded(uploads(broken)).loss  # type: ignore[union-attr]
    assert "[key]" in uploaded(uploads(leaking)).message  # type: ignore[union-attr]
    assert Loss.FORBIDDEN is uploaded(uploads(None)).loss  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "echo",
    [
        b'{"detail":"key bfl_0123456789-ab/cd refused"}',
        b'{"detail":"key bfl_0123456789\\u002dab\\/cd refused"}',
        b'{"detail":"key \\u0062fl_0123456789\\u002Dab/cd refused"}',
    ],
    ids=["plain", "escaped by php", "escaped by letter"],
)
def test_a_key_that_is_echoed_is_cut_out_however_it_is_escaped(echo: bytes) -> None:
    body = without_key(echo, "bfl_0123456789-ab/cd")

    assert b'{"detail":"key [key] refused"}' == body
