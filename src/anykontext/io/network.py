"""The way out: which proxy a call goes through, if any, and which certificates are trusted.

httpx's own reading of the environment is off, since it would also send what is in a `.netrc`. This machine itself is
never reached through a proxy: there its address would mean another machine, and a key may go over http to loopback.
"""

import functools
import importlib.util
import logging
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import httpcore
import httpx

from anykontext.adapting import Reply
from anykontext.engine.effects import Lost, NotDownloaded
from anykontext.engine.signing import is_loopback
from anykontext.io.bounded import BoundedBackend, BoundedTransport
from anykontext.io.exchange import SECRET_MIN, without_secrets
from anykontext.model.errors import ConfigurationError

SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}
NOT_THROUGH_PROXY = "behind a proxy names are resolved out of our sight, so that private addresses cannot be refused"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        url: Its URL, which may hold a user and a password.
        said_by: What named it, for messages.
    """

    url: str = field(repr=False)
    said_by: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """What it may echo of the user and the password that it was told; short words are cut out of nothing."""
        found = urlsplit(self.url)
        user, password = unquote(found.username or ""), unquote(found.password or "")
        basic = b64encode(f"{user}:{password}".encode()).decode()
        return tuple(one for one in (password or user, basic) if found.username and len(one) >= SECRET_MIN)

    def __str__(self) -> str:
        """Where it is, without user and password."""
        found = urlsplit(self.url)
        port = f":{found.port}" if found.port else ""
        host = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
        return f"{found.scheme}://{host}{port}"


def checked_proxy(url: str, said_by: str) -> Proxy:
    """A proxy from its URL; one without a scheme is spoken to over http.

    Raises:
        ConfigurationError: It is no URL of a proxy, or a package is missing; the message does not repeat it.
    """
    whole = url if "://" in url else f"http://{url}"
    try:
        found = urlsplit(whole)
        usable = found.scheme in SCHEMES and bool(found.hostname) and found.port != 0 and whole.isprintable()
        httpx.URL(whole)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or " " in whole:
        raise ConfigurationError(f'{said_by}: the URL of a proxy is needed, such as "http://proxy.example.com:3128"')
    if found.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(f'{said_by}: a SOCKS proxy needs another package: pip install "httpx[socks]"')
    return Proxy(whole, said_by)


@dataclass(frozen=True)
class Network:
    """The way out of one client.

    Attributes:
        proxies: By the scheme of what is asked for.
        direct: Hosts that are asked without a proxy, as `$NO_PROXY` writes them.
        trusted: The certificates that are trusted; None for the usual ones.
        is_set: Whether the configuration says anything, and not only the environment.
    """

    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    direct: tuple[str, ...] = ()
    trusted: ssl.SSLContext | None = field(default=None, repr=False)
    is_set: bool = False

    @functools.cached_property
    def tls(self) -> ssl.SSLContext:
        """One for all connections: it reads the certificates of the world."""
        return self.trusted or httpx.create_ssl_context(trust_env=False)

    def proxy_of(self, url: str) -> Proxy | None:
        """The proxy that leads to a URL; None where it is asked directly."""
        try:
            found = urlsplit(url)
            host, port = (found.hostname or "").rstrip("."), found.port or _PORTS.get(found.scheme)
        except ValueError:
            return None  # nothing is sent there
        if is_loopback(host) or any(_matches(pattern, host, port) for pattern in self.direct):
            return None
        return self.proxies.get(found.scheme)

    def told(self, what: T, url: str | None) -> T:
        """What came of an exchange, with no word of a proxy's secrets; how it was lost names the proxy."""
        proxy = None if url is None else self.proxy_of(url)
        if proxy is not None and isinstance(what, Reply):
            return without_secrets(what, proxy.secrets)  # type: ignore[return-value]  # it is a T
        if proxy is not None and isinstance(what, Lost | NotDownloaded):
            message = what.message
            for secret in proxy.secrets:
                message = message.replace(secret, "[password]")
            return replace(what, message=f"{message} (through the proxy {proxy}, from {proxy.said_by})")
        return what

    def client(self, proxy: Proxy | None, limits: httpx.Limits) -> httpx.Client:
        """A client for threads, whose exchanges keep to one time limit."""
        if proxy is None:
            return httpx.Client(transport=BoundedTransport(self.tls, limits), **_OPTIONS)
        return ProxiedClient(transport=_Transport(proxy, self.tls, limits), **_OPTIONS)

    def async_client(self, proxy: Proxy | None, limits: httpx.Limits) -> httpx.AsyncClient:
        """A client for asyncio."""
        if proxy is None:
            return httpx.AsyncClient(verify=self.tls, limits=limits, **_OPTIONS)
        return AsyncProxiedClient(transport=_AsyncTransport(proxy, self.tls, limits), **_OPTIONS)


_OPTIONS: Mapping[str, Any] = {"trust_env": False, "follow_redirects": False}


class ProxiedClient(httpx.Client):
    """A client that goes through a proxy, which resolves names out of our sight."""


class AsyncProxiedClient(httpx.AsyncClient):
    """The same for asyncio."""


def one_way_out(network: Network | None, http_client: object) -> Network:
    """The way out of a client, which is its own affair where the caller brought it.

    Raises:
        ConfigurationError: The caller brought one, and the configuration says another way.
    """
    if http_client is not None and network is not None and network.is_set:
        raise ConfigurationError(
            "[network] is for connections of our own, and you brought an http_client: give it the proxy and the "
            "certificates, and take [network] out"
        )
    return Network() if network is None or http_client is not None else network


def _matches(pattern: str, host: str, port: int | None) -> bool:
    """Whether an entry of `$NO_PROXY` means a host: a name and what is below it, an address or a range of them."""
    if pattern == "*":
        return True
    if "/" in pattern:
        try:
            return ip_address(host) in ip_network(pattern, strict=False)
        except ValueError:
            return False
    name, colon, number = pattern.rpartition(":")
    if colon and number.isdecimal() and ":" not in name.strip("[]"):
        return int(number) == (port or 0) and _matches(name, host, port)
    name = pattern.strip("[]").lstrip("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _tells_no_password(record: logging.LogRecord) -> bool:
    """The log of httpcore has the arguments of a SOCKS handshake, the user and the password among them."""
    return "auth=" not in record.getMessage()


logging.getLogger("httpcore.socks").addFilter(_tells_no_password)


def _settings(proxy: Proxy, tls: ssl.SSLContext, limits: httpx.Limits) -> dict[str, Any]:
    """What the pools of httpcore want to know; a proxy's own certificate is judged as all others."""
    told = httpx.Proxy(proxy.url)
    url = httpcore.URL(scheme=told.url.raw_scheme, host=told.url.raw_host, port=told.url.port, target=told.url.raw_path)
    over_tls = {"proxy_ssl_context": tls} if told.url.scheme == "https" else {}
    return {"proxy_url": url, "proxy_auth": told.raw_auth, "ssl_context": tls, **over_tls, **vars(limits)}


def _without_target(request: httpcore.Request) -> httpcore.Request:
    """The same request: its URL already holds the target byte for byte. httpcore would tell the proxy to connect to
    that path, in the clear, in place of the host.
    """
    request.extensions = {name: value for name, value in request.extensions.items() if name != "target"}
    return request


class _Pool(httpcore.HTTPProxy):
    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        return super().handle_request(_without_target(request))


class _AsyncPool(httpcore.AsyncHTTPProxy):
    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        return await super().handle_async_request(_without_target(request))


class _Transport(httpx.HTTPTransport):
    def __init__(self, proxy: Proxy, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        super().__init__(verify=tls, trust_env=False)
        pool = httpcore.SOCKSProxy if proxy.url.startswith("socks") else _Pool
        self._pool = pool(**_settings(proxy, tls, limits), network_backend=BoundedBackend())


class _AsyncTransport(httpx.AsyncHTTPTransport):
    def __init__(self, proxy: Proxy, tls: ssl.SSLContext, limits: httpx.Limits) -> None:
        super().__init__(verify=tls, trust_env=False)
        pool = httpcore.AsyncSOCKSProxy if proxy.url.startswith("socks") else _AsyncPool
        self._pool = pool(**_settings(proxy, tls, limits))


def network_of(
    proxy: str | None, ca_file: Path | None, environ: Mapping[str, str] | None, where: Mapping[str, str]
) -> Network:
    """The way out as it is configured, checked before anything is sent.

    Args:
        proxy: The URL of the proxy for everything; None for those of the environment.
        ca_file: The certificates to trust instead of the usual ones.
        environ: Where proxies are looked for; None for the environment of the process, and on Windows and macOS the
            settings of the system.
        where: Where the settings `proxy` and `ca_file` stand, for messages.

    Raises:
        ConfigurationError: The proxy or the file cannot be used.
    """
    trusted = None if ca_file is None else _trusting(ca_file, where["ca_file"])
    if proxy is not None:
        one = checked_proxy(proxy, where["proxy"])
        return Network({"http": one, "https": one}, trusted=trusted, is_set=True)
    found = urllib.request.getproxies() if environ is None else _proxies_in(environ)
    direct = tuple(one.strip().lower() for one in found.pop("no", "").split(",") if one.strip())
    for scheme in ("http", "https"):
        if "all" in found:
            found.setdefault(scheme, found["all"])
    used = {
        scheme: checked_proxy(url, f"${scheme.upper()}_PROXY" if url != found.get("all") else "$ALL_PROXY")
        for scheme, url in found.items()
        if scheme in {"http", "https"}
    }
    return Network(used, direct, trusted, is_set=trusted is not None)


def _proxies_in(environ: Mapping[str, str]) -> dict[str, str]:
    """What `urllib.request.getproxies` finds, in an environment of the caller's: small letters win over capitals."""
    names = sorted((name for name in environ if name.lower().endswith("_proxy")), key=str.islower)
    found = {name.lower().removesuffix("_proxy"): environ[name].strip() for name in names if environ[name].strip()}
    if "REQUEST_METHOD" in environ and "http_proxy" not in environ:
        found.pop("http", None)  # in a CGI program a visitor could set $HTTP_PROXY
    return found


def _trusting(ca_file: Path, where: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise ConfigurationError(f"{where}: {ca_file} holds no certificates in the form of PEM") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it has no usable name"
        raise ConfigurationError(f"{where}: the certificates cannot be read from {ca_file}: {why}") from None
