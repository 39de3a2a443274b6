"""What the sync and the async driver share: building a request, bounding a reply, telling how an exchange was lost."""

import re
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

import httpx
from pydantic import SecretStr

from anykontext.adapting import Kind, Refused, Reply, Uploaded
from anykontext.engine.attempt import Started
from anykontext.engine.effects import Download, Fault, Loss, Lost, NotDownloaded, Renew, Send, Upload
from anykontext.engine.provider import Provider, Remembering, Renewable
from anykontext.io.addresses import Forbidden
from anykontext.io.notify import logger
from anykontext.io.urls import split
from anykontext.model.errors import ConfigurationError, MissingKey
from anykontext.model.job import JobHandle
from anykontext.model.result import ImageResult

W = TypeVar("W", bound=BaseException)

USER_AGENT = "anykontext/0.1"  # Together's CDN refuses a blank one
REPLY_MAX = 64 * 1024 * 1024  # bytes; base64 images come inside a reply at some providers (F39)
CONNECT_S = 10.0
# A pooled connection that was idle longer may be closed by its peer at any time: a submit on it would look lost.
IDLE_S = 1.5
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=IDLE_S)
CLOSED = "Cannot send a request, as the client has been closed."  # httpx's words, and ours
# What a question within a submit is told after Ctrl-C: the submit beside it must still be able to say what it knows.
STOPPED_CHECK = Lost(Loss.INTERRUPTED, "stopped before it was answered")
SECRET_MIN = 12  # a shorter key (the sandbox's) may be a word of the reply; it is not cut out


def headers_of(send: Send) -> tuple[dict[str, str], str | None]:
    """The headers of a call, and the key that is in them, if any.

    Raises:
        MissingKey: There is no key, or it cannot be sent.
    """
    headers = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
    headers |= send.call.headers
    if send.call.body is not None:
        headers["Content-Type"] = send.call.body.media_type
        headers["Content-Length"] = str(len(send.call.body))
    if not send.address.signed:
        return headers, None
    key = send.provider.key().get_secret_value()
    if not key or not key.isascii() or not key.isprintable():
        raise MissingKey(f"{send.provider.name}: the key is empty, or has letters that no header can carry")
    name, form = send.provider.adapter.facts.auth
    headers[name] = form.format(key=key)
    return headers, key


def request_of(send: Send, content: Iterator[bytes] | AsyncIterator[bytes] | None) -> tuple[httpx.Request, str | None]:
    """The request of a call, and the key that is in it, if any. It is built here and not by the client, so that
    nothing of the client's (cookies, default headers) goes with it.

    Raises:
        MissingKey: There is no key, or it cannot be sent.
        Forbidden: The URL is none that anything may be sent to.
    """
    headers, key = headers_of(send)
    url, target = split(send.address.url)
    # The limits of the single steps; the driver holds the limit of the whole.
    wait_s = min(CONNECT_S, send.within_s)
    timeout = httpx.Timeout(send.within_s, connect=wait_s, pool=wait_s)
    extensions: dict[str, Any] = {"timeout": timeout.as_dict()}
    if target is not None and target != url.raw_path and send.call.origin is None:
        extensions["target"] = target
    request = httpx.Request(send.call.method, url, headers=headers, content=content, extensions=extensions)
    return request, key


def lost(error: Exception) -> Lost:
    """How an exchange was lost, by what the provider may have seen of it. Unsure means: it may have seen all."""
    words = _words(error)
    if isinstance(error, ConfigurationError):  # a key that could be read before, and now cannot: it was never sent
        return Lost(Loss.NOT_CONNECTED, words)
    if isinstance(error, RuntimeError) and str(error) == CLOSED:
        return Lost(Loss.INTERRUPTED, "the client was closed meanwhile")
    if isinstance(error, Forbidden) or _caused_by(error, Forbidden):
        return Lost(Loss.FORBIDDEN, words)
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Lost(Loss.FORBIDDEN, words)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        refused = _caused_by(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error)
        return Lost(Loss.CERTIFICATE if refused else Loss.NOT_CONNECTED, words)
    if isinstance(error, httpx.PoolTimeout):
        return Lost(Loss.NO_CONNECTION_FREE, words)
    return Lost(Loss.AFTER_SENDING, words)


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _words(error: Exception) -> str:
    """An error in words; httpx leaves some without any."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


class Collected:
    """The body of a reply as it arrives, bounded on the wire and after decoding (F35, F39)."""

    def __init__(self, send: Send, status: int, headers: Mapping[str, str], key: str | None) -> None:
        self.send = send
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.key = key
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> bool:
        """Take a piece; False when the reply has become too large."""
        self.size += len(chunk)
        self.parts.append(chunk)
        return self.size <= REPLY_MAX

    def heard(self) -> Reply | Lost:
        """The reply, decoded and with our own key cut out of it."""
        body = b"".join(self.parts)
        if self.size > REPLY_MAX:
            return Lost(Loss.TOO_LARGE, f"a reply of more than {REPLY_MAX:,} bytes")
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding in {"gzip", "deflate", "x-gzip"}:  # not asked for, and sent by some gateways all the same
            inflated = _inflated(body)
            if inflated is None:
                return Lost(Loss.TOO_LARGE, f"a compressed reply that is torn or larger than {REPLY_MAX:,} bytes")
            body = inflated
        reply = Reply(self.send.call, self.status, self.headers, body)
        return without_secrets(reply, keys_of(self.send.provider, self.key))


def _inflated(body: bytes) -> bytes | None:
    machine = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = machine.decompress(body, REPLY_MAX)
    except zlib.error:
        return None
    return plain if machine.eof else None


def interrupted(wish: W, result: object, handle: JobHandle | None) -> W:
    """The interruption to raise, with what had become of the job all the same.

    An error is its cause. An `ImageResult`, which cannot be asked for again at a provider without tasks, is its
    attribute `anykontext_result`. A result or a handle is noted, and logged too, since a time-out of asyncio replaces
    the exception.
    """
    result = result.result if isinstance(result, Started) else result
    wish.__cause__ = result if isinstance(result, Exception) else None
    if handle is not None and not isinstance(result, ImageResult):
        note = f"anykontext: {handle.job_id} may still run at {handle.provider}; client.resume({handle.to_json()!r})"
        wish.add_note(note)
        logger.warning("interrupted: %s", note)
    if isinstance(result, ImageResult):
        wish.__dict__["anykontext_result"] = result
        files = ", ".join(image.sha256 for image in result.images)
        note = f"anykontext: {result.job_id} is done, and its images lie in the spool under {files}"
        wish.add_note(note)
        logger.warning("interrupted: %s", note)
    return wish


def keys_of(provider: Provider, used: str | None = None) -> set[str]:
    """The key that was used, and those that were used before it: a reply may echo any of them."""
    key: object = provider.key
    given = {one.get_secret_value() for one in key.given} if isinstance(key, Remembering) else set()
    return {one for one in {used or "", *given} if len(one) >= SECRET_MIN}


def without_secrets(reply: Reply, secrets: Iterable[str]) -> Reply:
    """A reply without our secrets, in its headers as in its body, also where they are quoted or in capitals."""
    body, headers = reply.body, dict(reply.headers)
    for secret in secrets:
        body = without_key(body, secret)
        for form in {secret, secret.upper(), secret.lower(), quote(secret, safe=""), quote_plus(secret)}:
            body = body.replace(form.encode(), b"[key]")
            headers = {name: value.replace(form, "[key]") for name, value in headers.items()}
    return replace(reply, body=body, headers=headers)


def without_key(body: bytes, key: str) -> bytes:
    """A body without our key, as it stands or with letters escaped as JSON may escape them."""
    body = body.replace(key.encode(), b"[key]")
    if b"\\" not in body:
        return body
    letters = (rf"(?:{re.escape(letter)}|\\u00{ord(letter):02x}|\\{re.escape(letter)})" for letter in key)
    return re.sub("".join(letters).encode(), b"[key]", body, flags=re.IGNORECASE)


def uploaded(effect: Upload, used: dict[str, SecretStr] | None = None) -> Uploaded | Refused | Lost:
    """Run an adapter's upload, which is a vendor's SDK and may raise anything; it costs nothing and may be repeated.

    The key goes into `used`, by provider.
    """
    upload = effect.provider.upload
    if upload is None:
        return Lost(Loss.FORBIDDEN, f"{effect.provider.name} takes no uploads")
    try:
        key = effect.provider.key()
    except ConfigurationError as error:
        return lost(error)
    if used is not None:
        used[effect.provider.name] = key
    try:
        told = upload(effect.image, key, effect.within_s)
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises, the flow decides
        why = lost(error)
        return replace(why, message=why.message.replace(key.get_secret_value(), "[key]"))
    if isinstance(told, str):
        return Uploaded(told)
    return told if isinstance(told, Refused) else Refused(Kind.PROTOCOL_ERROR, "the upload gave no URL")


def renewed(effect: Renew, used: Mapping[str, SecretStr]) -> bool:
    """Whether the provider has another key than the one that was used; what its source raises is no new key."""
    key: object = effect.provider.key
    refused = used.get(effect.provider.name)
    try:
        return refused is not None and isinstance(key, Renewable) and key.renew(refused)
    except Exception as error:  # noqa: BLE001 - a stranger's key source may raise anything
        logger.warning("the key of %s was refused, and a new one is not found: %s", effect.provider.name, _words(error))
        return False


def late_image(what: Download) -> NotDownloaded:
    """A download that took too long."""
    return NotDownloaded(Fault.LOST, f"not fetched within {what.within_s:.0f} s")


def chunks_of(send: Send) -> Iterator[bytes] | None:
    """The request's body, encoded as it is sent; None when there is none."""
    return None if send.call.body is None else send.call.body.chunks()
