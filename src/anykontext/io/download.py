"""Fetching a finished image into the spool, without a key and bounded in time, bytes and pixels: sync and async."""

import asyncio
import binascii
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Protocol
from urllib.parse import urljoin

import httpx
import pybase64

from anykontext.engine.effects import Download, Fault, Fetched, NotDownloaded
from anykontext.io.guard import AsyncGuardedClient, Forbidden, GuardedClient, bounded
from anykontext.io.network import AsyncProxiedClient, ProxiedClient
from anykontext.io.spool import MAX_PIXELS, BadImage, Incoming, Spool
from anykontext.io.urls import bare, split

MAX_BYTES = 64 * 1024 * 1024
MAX_REDIRECTS = 3
USER_AGENT = "anykontext"  # never blank: one delivery network refuses that

_GONE = frozenset({403, 404, 410})
_AGAIN = frozenset({408, 425, 429})
_DATA = re.compile(r"\s*data:[^,;]{0,100};base64,")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Stopped(Exception):
    """The download ended without an image."""

    def __init__(self, fault: Fault, message: str, http_status: int | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.http_status = http_status


# All that `receive` raises when a server or a link is to blame.
EXPECTED = (_Stopped, BadImage, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)


class Link(Protocol):
    """What is fetched: a `Download`, or the link of an input image."""

    @property
    def url(self) -> str | None:
        """Where it lies, byte for byte as it was given."""

    @property
    def within_s(self) -> float:
        """How long it may take, in seconds."""


class Sink(Protocol):
    """Where the bytes go."""

    def write(self, chunk: bytes, /) -> object:
        """Take some bytes."""


class Receiving:
    """The decisions of one download; it reads and writes nothing, and the sync and async twins share it.

    Args:
        what: What to fetch.
        clock: Seconds on a clock that only goes forward.
        max_bytes: The largest image, in bytes.
        user_agent: Our name in the request.
    """

    def __init__(self, what: Link, *, clock: Callable[[], float], max_bytes: int, user_agent: str) -> None:
        self._what = what
        self._clock = clock
        self._end = clock() + what.within_s
        self._max_bytes = max_bytes
        self._user_agent = user_agent
        self._url = what.url or ""
        self._redirects = 0
        self._status: int | None = None
        self._length: int | None = None
        self._framed = True
        self._received = 0

    @property
    def source_url(self) -> str | None:
        """Where the provider said that the image is, without query, and so without signature."""
        return None if self._what.url is None else bare(self._what.url)

    def seconds_left(self) -> float:
        """What is left of the time for the whole download (F32); it may be negative."""
        return self._end - self._clock()

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The next request. It is built here and not by the client, so that nothing of the client's goes with it.

        Raises:
            Forbidden: The URL is none that anything may be sent to.
        """
        if self._what.url is None:
            raise _Stopped(Fault.BAD, "the provider gave neither a link nor an image")
        left = self.seconds_left()
        if left <= 0:
            raise self._late()
        guarded = isinstance(client, GuardedClient | AsyncGuardedClient)
        if self._redirects and not guarded:
            raise Forbidden("a redirect, which a client that resolves names out of our sight may not follow")
        url, target = split(self._url)
        extensions: dict[str, object] = {"timeout": httpx.Timeout(left).as_dict()}
        ours = guarded or isinstance(client, ProxiedClient | AsyncProxiedClient)
        if target is not None and (ours or target != url.raw_path):
            # Byte for byte as it came: a signature covers the spelling.
            extensions["target"] = target
            if ours:
                url = url.copy_with(query=None)  # httpx logs the URL of every request; the signature is in the query
        headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        return httpx.Request("GET", url, headers=headers, extensions=extensions)

    def head(self, status: int, headers: Mapping[str, str]) -> bool:
        """Judge the head of a reply: True when its body is to be read, False when `request` tells where to go on."""
        if status in _REDIRECTS:
            self._follow(status, headers.get("location"))
            return False
        if status != 200:
            fault = Fault.GONE if status in _GONE else Fault.LOST if status in _AGAIN or status >= 500 else Fault.BAD
            raise _Stopped(fault, f"HTTP status {status}", status)
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity"}:
            # A few kilobytes may unpack to gigabytes, in one chunk (F35).
            raise _Stopped(Fault.BAD, f"it is packed ({encoding[:40]!r}), which was not asked for", status)
        length = headers.get("content-length", "").strip()
        self._length = int(length[:20]) if length.isdecimal() else None
        self._framed = self._length is not None or "chunked" in headers.get("transfer-encoding", "").lower()
        if self._length is not None and self._length > self._max_bytes:
            raise self._too_large(self._length)
        self._status = status
        return True

    def feed(self, chunk: bytes) -> bytes:
        """Count a chunk of the body and let it through, while there is time and room for it (F32, F34)."""
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise self._too_large(self._received)
        if self.seconds_left() <= 0:
            raise self._late()
        return chunk

    def ended(self) -> None:
        """The body has ended: is it as long as it said (F29)?"""
        if self._length is not None and self._received != self._length:
            message = f"the connection ended after {self._received} of {self._length} bytes"
            raise _Stopped(Fault.LOST, message, self._status)

    def decoded(self, text: str) -> bytes:
        """The bytes of an image that came as base64 inside a reply; line breaks and a data: prefix do no harm."""
        head = _DATA.match(text)
        text = "".join(text[head.end() if head else 0 :].split())
        size = len(text) // 4 * 3
        if size > self._max_bytes + 2:  # before anything is decoded (F42)
            raise self._too_large(size)
        try:
            return pybase64.b64decode(text, validate=True)  # strictly (F43)
        except (binascii.Error, ValueError) as error:
            raise _Stopped(Fault.BAD, f"what came is not valid base64: {error}") from error

    def verdict(self, error: Exception) -> NotDownloaded:
        """Every way in which it can fail, as a fault and words without the URL's query."""
        if isinstance(error, _Stopped):
            return self._told(error.fault, str(error), error.http_status)
        if isinstance(error, BadImage):
            # Where nothing told the length, a cut image is a cut connection, and worth another try (F30).
            torn = error.cut and not self._framed
            return self._told(Fault.LOST if torn else Fault.BAD, str(error), self._status)
        if isinstance(error, Forbidden | httpx.InvalidURL | httpx.UnsupportedProtocol | ValueError):
            return self._told(Fault.FORBIDDEN, f"not fetched: {error}")
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            return self.verdict(self._late())
        if isinstance(error, httpx.HTTPError | httpx.StreamError):
            return self._told(Fault.LOST, f"the connection failed: {str(error) or type(error).__name__}", self._status)
        reason = getattr(error, "strerror", None) or str(error)
        return NotDownloaded(Fault.DISK, f"the image cannot be written into the spool: {reason}", self._status)

    def _told(self, fault: Fault, words: str, http_status: int | None = None) -> NotDownloaded:
        for url in (self._url, self._what.url or ""):
            for secret in filter(None, re.split("[?&#]", url)[1:]):  # a server may echo what it was sent
                words = words.replace(secret, "…")
        where = bare(self._url)[:200] if self._url else "the image inside the reply"
        return NotDownloaded(fault, f"{where}: {words[:500]}", http_status)

    def _follow(self, status: int, location: str | None) -> None:
        if not location:
            raise _Stopped(Fault.BAD, f"HTTP status {status} that does not tell where to go", status)
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            raise _Stopped(Fault.BAD, f"more than {MAX_REDIRECTS} redirects", status)
        try:
            target = urljoin(self._url, location)
        except ValueError:
            raise Forbidden("a redirect to a URL that cannot be read") from None
        if self._url[:6].lower() == "https:" and target[:6].lower() != "https:":
            raise Forbidden("a redirect away from https")
        self._url = target

    def _late(self) -> _Stopped:
        return _Stopped(Fault.LOST, f"it took longer than {self._what.within_s:g} s", self._status)

    def _too_large(self, size: int) -> _Stopped:
        message = f"at least {size} bytes are more than the {self._max_bytes} that are taken"
        return _Stopped(Fault.BAD, message, self._status)


def fetch(
    client: httpx.Client,
    what: Download,
    spool: Spool,
    *,
    clock: Callable[[], float] = time.monotonic,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    user_agent: str = USER_AGENT,
) -> Fetched:
    """Fetch an image into the spool, and decode all of it before it is called one.

    Args:
        client: From `guarded_client`, with the hosts of the provider's own base URLs; nothing else of it is used than
            its connections.
        what: The link or the base64 text, and `within_s`: for connecting, head and body together.
        spool: Where it goes.
        clock: Seconds on a clock that only goes forward.
        max_bytes: The largest image, in bytes.
        max_pixels: The largest image, in pixels (width x height).
        user_agent: Our name in the request.

    Returns:
        The image, or `NotDownloaded`; a failure of network, content or disk never raises.
    """
    receiving = Receiving(what, clock=clock, max_bytes=max_bytes, user_agent=user_agent)
    try:
        with spool.receive() as incoming:
            if what.base64 is not None:
                _take(incoming, receiving, what.base64)
            else:
                with bounded(receiving.seconds_left):
                    receive(client, receiving, incoming)
            return incoming.keep(max_pixels=max_pixels, source_url=receiving.source_url, expires_at=what.expires_at)
    except EXPECTED as error:
        return receiving.verdict(error)


def _take(incoming: Incoming, receiving: Receiving, text: str) -> None:
    """Decode base64 into the spool; what cannot be decoded is paid for all the same, and kept there as it came."""
    try:
        incoming.write(receiving.decoded(text))
    except _Stopped as error:
        incoming.write(text.encode("utf-8", "replace"))
        try:
            incoming.keep()
        except BadImage as kept:
            raise _Stopped(error.fault, f"{error}; {kept}") from error


def receive(client: httpx.Client, receiving: Receiving, sink: Sink) -> None:
    """Read one body into a sink, over checked redirects.

    Raises:
        One of `EXPECTED`: `Receiving.verdict` tells what it means.
    """
    while True:
        request = receiving.request(client)
        with closing(client.send(request, stream=True, auth=None, follow_redirects=False)) as reply:
            if receiving.head(reply.status_code, reply.headers):
                for chunk in reply.iter_raw():
                    sink.write(receiving.feed(chunk))
                return receiving.ended()


async def afetch(
    client: httpx.AsyncClient,
    what: Download,
    spool: Spool,
    *,
    clock: Callable[[], float] = time.monotonic,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    user_agent: str = USER_AGENT,
) -> Fetched:
    """As `fetch`, for asyncio: the client is from `async_guarded_client`, and the decoding runs in a thread."""
    receiving = Receiving(what, clock=clock, max_bytes=max_bytes, user_agent=user_agent)
    try:
        with spool.receive() as incoming:
            if what.base64 is not None:
                await asyncio.to_thread(_take, incoming, receiving, what.base64)
            else:
                async with asyncio.timeout(max(receiving.seconds_left(), 0)):
                    await areceive(client, receiving, incoming)
            return await asyncio.to_thread(
                incoming.keep, max_pixels=max_pixels, source_url=receiving.source_url, expires_at=what.expires_at
            )
    except EXPECTED as error:
        return receiving.verdict(error)


async def areceive(client: httpx.AsyncClient, receiving: Receiving, sink: Sink) -> None:
    """As `receive`, for asyncio; the caller holds the time limit."""
    while True:
        request = receiving.request(client)
        reply = await client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            if receiving.head(reply.status_code, reply.headers):
                async for chunk in reply.aiter_raw():
                    sink.write(receiving.feed(chunk))
                return receiving.ended()
        finally:
            await reply.aclose()
