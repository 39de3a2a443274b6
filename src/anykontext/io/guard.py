"""The guard: a client for URLs that strangers name. It goes to public addresses only, and carries nothing of ours.

A host is resolved here, every address is checked, and the connection goes to an address that was checked: a name that
resolves to something else a moment later (DNS rebinding) gains nothing. The URL stays as it is, so the Host header and
the name in the certificate are the host's.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Thread
from time import monotonic
from typing import Any

import httpcore
import httpx

from anykontext.io.addresses import Forbidden, Guard
from anykontext.io.bounded import BoundedStream, bounded

__all__ = [
    "AsyncGuardedClient",
    "Forbidden",
    "Guard",
    "GuardedClient",
    "async_guarded_client",
    "bounded",
    "guarded_client",
]

Resolve = Callable[[str, int], list[str]]
SocketOptions = Iterable[Any]

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)


def system_resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, by the system's resolver.

    Raises:
        OSError: It has none, or the resolver cannot be reached.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else monotonic() + timeout


def _turns(addresses: list[str], end: float | None) -> Iterator[tuple[str, float | None]]:
    """Each address with its share of the time that is left, so that a dead one does not use up that of the others."""
    for waiting, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        yield address, None if end is None else max((end - monotonic()) / waiting, 0.001)


def _not_found(host: str, error: Exception) -> httpcore.ConnectError:
    reason = getattr(error, "strerror", None) or error
    return httpcore.ConnectError(f"the address of {host!r} cannot be found: {reason}")


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks and connects, for threads.

    Args:
        guard: What is allowed.
        resolve: Gives all addresses of a host and port; it may block. None for the system's.
        inner: Connects to an address.
    """

    def __init__(
        self, guard: Guard, resolve: Resolve | None = None, inner: httpcore.NetworkBackend | None = None
    ) -> None:
        self._guard = guard
        self._resolve = resolve or system_resolve
        self._inner = inner or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a checked address of the host, the next one where the first does not answer.

        Raises:
            Forbidden: The host, or one of its addresses, is not allowed.
            httpcore.ConnectError: It cannot be found or reached.
            httpcore.ConnectTimeout: It took too long.
        """
        end = _end(timeout)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError(f"{host!r} has no address")
        for address, share in _turns(self._guard.check(host, self._resolved(host, port, timeout)), end):
            try:
                return BoundedStream(self._inner.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def _resolved(self, host: str, port: int, timeout: float | None) -> list[str]:
        """In a thread of its own, because the system's resolver knows no time-out."""
        answer: Future[list[str]] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._resolve(host, port))
            except Exception as error:  # noqa: BLE001 - told to the thread that waits
                answer.set_exception(error)

        Thread(target=ask, name="anykontext-resolve", daemon=True).start()
        try:
            return answer.result(timeout)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"the address of {host!r} was not found in time") from None
        except (OSError, UnicodeError) as error:
            raise _not_found(host, error) from error


class AsyncGuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves, checks and connects, for asyncio; the arguments are those of `GuardedBackend`."""

    def __init__(
        self, guard: Guard, resolve: Resolve | None = None, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._guard = guard
        self._resolve = resolve or system_resolve
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As `GuardedBackend.connect_tcp`."""
        end = _end(timeout)
        failed: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError(f"{host!r} has no address")
        for address, share in _turns(self._guard.check(host, await self._resolved(host, port, end)), end):
            try:
                return await self._inner.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def _resolved(self, host: str, port: int, end: float | None) -> list[str]:
        try:
            async with asyncio.timeout(None if end is None else max(end - monotonic(), 0)):
                return await asyncio.to_thread(self._resolve, host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"the address of {host!r} was not found in time") from None
        except (OSError, UnicodeError) as error:
            raise _not_found(host, error) from error


# The transports below do not override `handle_request`: vcrpy replaces it in the classes of httpx.
class _Transport(httpx.HTTPTransport):
    def __init__(self, backend: GuardedBackend, *, verify: ssl.SSLContext | bool, limits: httpx.Limits) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify, trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(context, network_backend=backend, **vars(limits))


class _AsyncTransport(httpx.AsyncHTTPTransport):
    def __init__(self, backend: AsyncGuardedBackend, *, verify: ssl.SSLContext | bool, limits: httpx.Limits) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify, trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(context, network_backend=backend, **vars(limits))


class GuardedClient(httpx.Client):
    """A client of `guarded_client`."""


class AsyncGuardedClient(httpx.AsyncClient):
    """A client of `async_guarded_client`."""


def guarded_client(
    allowed_hosts: frozenset[str],
    *,
    resolve: Resolve | None = None,
    timeout: httpx.Timeout = TIMEOUT,
    limits: httpx.Limits = LIMITS,
    verify: ssl.SSLContext | bool = True,
) -> GuardedClient:
    """A client that goes to public hosts over https, and to `allowed_hosts`; no proxy, redirect, cookie or key.

    Args:
        allowed_hosts: Those of the provider's own base URLs; see `signing.hosts_of`.
        resolve: Gives all addresses of a host and port; None for the system's.
        timeout: For requests that bring none of their own.
        limits: Of the connection pool.
        verify: How certificates are checked; one context serves many clients.

    The client raises `Forbidden` for what it may not reach, beside httpx's own errors.
    """
    guard = Guard(allowed_hosts)

    def check(request: httpx.Request) -> None:
        guard.check_url(request.url.scheme, request.url.host)

    return GuardedClient(
        transport=_Transport(GuardedBackend(guard, resolve), verify=verify, limits=limits),
        event_hooks={"request": [check]},
        **_options(timeout),
    )


def async_guarded_client(
    allowed_hosts: frozenset[str],
    *,
    resolve: Resolve | None = None,
    timeout: httpx.Timeout = TIMEOUT,
    limits: httpx.Limits = LIMITS,
    verify: ssl.SSLContext | bool = True,
) -> AsyncGuardedClient:
    """As `guarded_client`, for asyncio; `resolve` runs in a thread."""
    guard = Guard(allowed_hosts)

    async def check(request: httpx.Request) -> None:
        guard.check_url(request.url.scheme, request.url.host)

    return AsyncGuardedClient(
        transport=_AsyncTransport(AsyncGuardedBackend(guard, resolve), verify=verify, limits=limits),
        event_hooks={"request": [check]},
        **_options(timeout),
    )


def _options(timeout: httpx.Timeout) -> dict[str, Any]:
    return {
        "timeout": timeout,
        "follow_redirects": False,
        "trust_env": False,
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }
