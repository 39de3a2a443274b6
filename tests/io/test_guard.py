import asyncio
import ssl
import threading
import time
from ipaddress import ip_address

import httpcore
import httpx
import pytest

from anykontext.io import guard as guards
from anykontext.io.addresses import is_public
from anykontext.io.guard import Forbidden, Guard, async_guarded_client, bounded, guarded_client

PUBLIC, OTHER = "93.184.215.14", "151.101.1.140"
PRIVATE = [
    "127.0.0.1",
    "169.254.169.254",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "::1",
    "0.0.0.0",
    "192.168.1.1",
    "100.100.100.200",
]


class Sync(httpcore.NetworkBackend):
    """Stands for the network: remembers where it was asked to connect to; `dead` addresses do not answer."""

    def __init__(self, *dead):
        self.dead = dead
        self.connects = []
        self.names = []

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.connects.append((host, timeout))
        if host in self.dead:
            raise httpcore.ConnectTimeout("no answer")
        return Stream(self)


class Stream(httpcore.MockStream):
    def __init__(self, network):
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
        self.network = network

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        self.network.names.append(server_hostname)
        return self


class Async(httpcore.AsyncNetworkBackend):
    def __init__(self, *dead):
        self.sync = Sync(*dead)

    async def connect_tcp(self, host, port, *options):
        self.sync.connect_tcp(host, port, *options)
        return AsyncStream(self.sync)


class AsyncStream(httpcore.AsyncMockStream):
    def __init__(self, network):
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"])
        self.network = network

    async def start_tls(self, ssl_context, server_hostname, **_options):
        self.network.names.append(server_hostname)
        return self


def answering(*addresses):
    return lambda _host, _port: list(addresses)


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Connect to a host through the guard; returns the stand-in for the network."""

    def sync(host, resolve, allowed=(), dead=(), timeout=5.0):
        network = Sync(*dead)
        guards.GuardedBackend(Guard(frozenset(allowed)), resolve, network).connect_tcp(host, 443, timeout)
        return network

    def asynchronous(host, resolve, allowed=(), dead=(), timeout=5.0):
        network = Async(*dead)
        backend = guards.AsyncGuardedBackend(Guard(frozenset(allowed)), resolve, network)
        asyncio.run(backend.connect_tcp(host, 443, timeout))
        return network.sync

    return sync if request.param == "sync" else asynchronous


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_a_public_address_is_public(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *PRIVATE,
        *(
            "172.16.0.1",
            "100.64.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "100.100.100.200",
        ),
        *("100.100.100.200", "192.0.0.192", "168.63.129.16", "192.0.2.1", "203.0.113.9"),
        *("::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "2001::1"),
        *(
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "2002:a00:1::1",
            "2002:7f00:1::",
            "::10.0.0.1",
            "::ffff:169.254.169.254",
        ),
    ],
)
def test_an_address_that_is_not_public_is_refused_in_every_wrapping(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_a_public_name_that_leads_to_a_private_address_is_refused(connect, address):
    with pytest.raises(Forbidden, match=f"'cdn.example' leads to {address}"):
        connect("cdn.example", answering(address))


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_with_a_public_and_a_private_address_is_refused(connect, order):
    with pytest.raises(Forbidden):
        connect("cdn.example", answering(*[PUBLIC, "10.0.0.1"][::order]))


def test_the_connection_goes_to_the_address_that_was_checked(connect):
    network = connect("cdn.example", answering(PUBLIC))
    assert [host for host, _ in network.connects] == [PUBLIC]


def test_a_name_that_changes_after_the_check_gains_nothing(connect):
    answers = [[PUBLIC], ["127.0.0.1"]]
    network = connect("cdn.example", lambda _host, _port: answers.pop(0))
    assert [host for host, _ in network.connects] == [PUBLIC]
    assert answers == [["127.0.0.1"]]


def test_the_next_address_is_tried_when_one_is_dead_and_each_has_its_share_of_the_time(connect):
    network = connect("cdn.example", answering(PUBLIC, OTHER), dead=[PUBLIC], timeout=8.0)
    (first, half), (second, rest) = network.connects
    assert (first, second) == (PUBLIC, OTHER)
    assert 3 < half <= 4 < rest <= 8


def test_when_no_address_answers_it_is_a_failed_connection(connect):
    with pytest.raises(httpcore.ConnectTimeout):
        connect("cdn.example", answering(PUBLIC, OTHER), dead=[PUBLIC, OTHER])
    with pytest.raises(httpcore.ConnectError, match="no address"):
        connect("cdn.example", answering())


def test_a_name_that_cannot_be_found_is_a_failed_connection(connect):
    def resolve(_host, _port):
        raise OSError(-2, "Name or service not known")

    with pytest.raises(httpcore.ConnectError, match=r"'cdn.example' cannot be found: Name or service"):
        connect("cdn.example", resolve)


def test_a_resolver_that_hangs_does_not_outlast_the_time_for_connecting(connect):
    waiting = threading.Event()

    def resolve(_host, _port):
        waiting.wait(0.2)
        return [PUBLIC]

    started = time.monotonic()
    with pytest.raises(httpcore.ConnectTimeout):
        connect("cdn.example", resolve, timeout=0.05)
    assert time.monotonic() - started < 2
    waiting.set()


@pytest.mark.parametrize("host", ["proxy.intern", "PROXY.intern", "proxy.intern."])
def test_the_providers_own_host_may_be_private(connect, host):
    network = connect(host, answering("10.1.2.3"), allowed=["proxy.intern"])
    assert [address for address, _ in network.connects] == ["10.1.2.3"]


def test_another_host_of_that_private_net_is_refused(connect):
    with pytest.raises(Forbidden):
        connect("db.intern", answering("10.1.2.4"), allowed=["proxy.intern"])


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "::1"), ("127.0.0.1", "127.0.0.1"), ("cdn.localhost", "127.0.0.1")]
)
def test_with_an_emulator_on_loopback_every_loopback_name_is_allowed(connect, host, address):
    assert connect(host, answering(address), allowed=["127.0.0.1"]).connects
    with pytest.raises(Forbidden):
        connect(host, answering(address), allowed=["api.bfl.ai"])


def test_an_emulator_does_not_open_loopback_or_the_net_to_other_names(connect):
    with pytest.raises(Forbidden):
        connect("evil.example", answering("127.0.0.1"), allowed=["127.0.0.1"])
    with pytest.raises(Forbidden):
        connect("localhost", answering("10.0.0.1"), allowed=["127.0.0.1"])


def through(client, network):
    """Put the stand-in behind a guarded client."""
    client._transport._pool._network_backend._inner = network
    return client


def got(url, allowed=(), addresses=(PUBLIC,), kind="sync", **options):
    network = Sync() if kind == "sync" else Async()
    make = guarded_client if kind == "sync" else async_guarded_client
    client = through(make(frozenset(allowed), resolve=answering(*addresses), **options), network)

    async def ask():
        async with client:
            return await client.get(url)

    if kind == "async":
        return asyncio.run(ask()), network.sync
    with client:
        return client.get(url), network


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_host_header_and_the_name_in_the_certificate_stay_those_of_the_url(kind):
    reply, network = got("https://cdn.example/a", kind=kind)
    assert reply.text == "ok"
    assert reply.request.headers["host"] == "cdn.example"
    assert network.names == ["cdn.example"]
    assert [address for address, _ in network.connects] == [PUBLIC]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_http_goes_to_the_providers_own_host_only(kind):
    with pytest.raises(Forbidden, match="only https"):
        got("http://cdn.example/a", kind=kind)
    with pytest.raises(Forbidden, match="only https"):
        got("http://localhost/a", ["api.example"], kind=kind)
    assert got("http://api.example/a", ["api.example"], kind=kind)[0].text == "ok"
    assert got("http://localhost/a", ["127.0.0.1"], ["127.0.0.1"], kind=kind)[0].text == "ok"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://0x7f.1/"]
)
def test_an_address_in_the_url_is_checked_like_a_name(kind, url):
    make = guarded_client if kind == "sync" else async_guarded_client
    client = through(make(frozenset()), Sync() if kind == "sync" else Async())  # the system's resolver reads addresses

    async def ask():
        async with client:
            await client.get(url)

    with pytest.raises(Forbidden):
        asyncio.run(ask()) if kind == "async" else client.get(url)


def test_certificates_are_checked_unless_told_otherwise():
    context = guarded_client(frozenset())._transport._pool._ssl_context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    own = ssl.create_default_context()
    assert async_guarded_client(frozenset(), verify=own)._transport._pool._ssl_context is own


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert got("https://cdn.example/")[1].connects[0][0] == PUBLIC


def test_no_cookie_is_kept(server):
    server.replies(b"ok", "Set-Cookie: track=1")
    with guarded_client(frozenset({"127.0.0.1"})) as client:
        client.get(server.url())
        client.get(server.url())
        assert not client.cookies
    assert b"track" not in server.requests[1]


def test_the_transports_leave_the_method_that_vcrpy_replaces_alone():
    assert guards._Transport.handle_request is httpx.HTTPTransport.handle_request
    assert guards._AsyncTransport.handle_async_request is httpx.AsyncHTTPTransport.handle_async_request


def test_f32_within_a_bounded_block_a_drip_in_the_head_ends_in_time(server):
    server.answers(b"HTTP/1.1 200 OK\r\n", *[step for _ in range(100) for step in (0.04, b"X-Drip: 1\r\n")])
    client = guarded_client(frozenset({"127.0.0.1"}))
    started = time.monotonic()
    with client, bounded(lambda: started + 0.15 - time.monotonic()), pytest.raises(httpx.ReadTimeout):
        client.get(server.url())
    assert time.monotonic() - started < 2
