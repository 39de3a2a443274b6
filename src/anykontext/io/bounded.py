"""Sync connections whose whole exchange keeps to one time limit; httpx limits each read alone."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_time_left: ContextVar[Callable[[], float] | None] = ContextVar("time_left", default=None)


@contextmanager
def bounded(seconds_left: Callable[[], float]) -> Iterator[None]:
    """Within this block no read or write of a guarded sync connection lasts longer than what is left (F32).

    httpx's own time-outs start anew with every read, so that a slow drip would never end.
    """
    token = _time_left.set(seconds_left)
    try:
        yield
    finally:
        _time_left.reset(token)


def within(timeout: float | None) -> float | None:
    """A time-out that is no longer than what is left."""
    seconds_left = _time_left.get()
    if seconds_left is None:
        return timeout
    left = seconds_left()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left if timeout is None else min(left, timeout)


class BoundedStream(httpcore.NetworkStream):
    """A connection whose reads and writes keep to `bounded`."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there."""
        return self._inner.read(max_bytes, within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        self._inner.write(buffer, within(timeout))

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection within TLS."""
        return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, within(timeout)))

    def get_extra_info(self, info: str) -> Any:
        """What the connection tells of itself."""
        return self._inner.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """httpcore's own, whose connections keep to `bounded`."""

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect."""
        return BoundedStream(super().connect_tcp(*args, **options))


class BoundedTransport(httpx.HTTPTransport):
    """httpx's own, on connections that keep to `bounded`."""

    def __init__(self, context: ssl.SSLContext, limits: httpx.Limits) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(context, network_backend=BoundedBackend(), **vars(limits))
