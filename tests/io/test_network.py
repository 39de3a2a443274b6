"""The way out: proxies of the configuration and of the environment, certificates, and what a proxy never sees."""

import asyncio
import contextlib
import inspect
import logging
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import httpx
import pytest

import anykontext as ak
from anykontext.adapting import InputImage, Purpose, Reply, get
from anykontext.engine.effects import Download, Fault, Loss, Lost, NotDownloaded, Send
from anykontext.engine.provider import Provider
from anykontext.engine.signing import Address
from anykontext.io.drive_async import AsyncDriver
from anykontext.io.drive_sync import SyncDriver
from anykontext.io.network import Network, network_of
from anykontext.io.notify import Notifier
from anykontext.io.spool import Spool
from anykontext.model.errors import ConfigurationError
from anykontext.sandbox import Emulator, Sandbox

SECRET = "very-secret"
WHERE = {"proxy": "a.toml, line 2: network.proxy", "ca_file": "a.toml, line 3: network.ca_file"}
KINDS = ["sync", "async"]


class TinyProxy:
    """Forwards to ports of this machine, whatever the host is called; `heads` holds what it was asked.

    With `refuses` it answers every request with that status line.
    """

    def __init__(self, refuses: str = "") -> None:
        self.heads: list[str] = []
        self.refuses = refuses
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def asked(self) -> list[str]:
        return [head.splitlines()[0] for head in self.heads]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(2)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=self._talk, args=(self._socket.accept()[0],), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            came = b""
            while b"\r\n\r\n" not in came:
                if not (read := client.recv(65536)):
                    return
                came += read
            head, _, body = came.partition(b"\r\n\r\n")
            self.heads.append(head.decode())
            if self.refuses:
                client.sendall(f"HTTP/1.1 {self.refuses}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            method, target, _ = self.heads[-1].split("\r\n")[0].split(" ")
            url = httpx.URL(target)
            lines = [
                f"{method} {url.raw_path.decode()} HTTP/1.1",
                "Connection: close",
                *self.heads[-1].split("\r\n")[1:],
            ]
            lines = [one for one in lines if not one.lower().startswith(("connection: keep", "proxy-"))]
            with socket.create_connection(("127.0.0.1", url.port or 80)) as server:
                server.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                threading.Thread(target=pump, args=(client, server), daemon=True).start()
                back.join(10)


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while read := source.recv(65536):
            target.sendall(read)


@pytest.fixture
def proxy() -> Iterator[TinyProxy]:
    one = TinyProxy()
    yield one
    one.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def bfl(home: Path) -> Iterator[Emulator]:
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        one = sandbox.emulators["bfl"]
        one.megapixels = 0.02
        yield one


def renamed(bfl: Emulator) -> Mapping[str, Any]:
    """The emulator under a name that only a proxy finds."""
    bfl.origins = {name: url.replace("127.0.0.1", "kontext.test") for name, url in bfl.origins.items()}
    return {**bfl.config(), "allow_http": True, "poll_interval_s": 0.01}


def generate(kind: str, config: ak.Config, **options: Any) -> ak.ImageResult:
    if kind == "sync":
        with ak.Client(config) as client:
            return client.generate("a cat", **options)

    async def main() -> ak.ImageResult:
        async with ak.AsyncClient(config) as client:
            return await client.generate("a cat", **options)

    return asyncio.run(main())


def drive(kind: str, spool: Spool, network: Network, action: Callable[[Any], Any]) -> Any:
    """Do something with a driver of either kind."""
    if kind == "sync":
        driver = SyncDriver(spool, network=network)
        try:
            return action(driver)
        finally:
            driver.close()

    async def main() -> Any:
        adriver = AsyncDriver(spool, network=network)
        try:
            told = action(adriver)
            return await told if inspect.isawaitable(told) else told
        finally:
            await adriver.close()

    return asyncio.run(main())


def behind(proxy: TinyProxy) -> Network:
    return network_of(proxy.url, None, {}, WHERE)


def provider(**settings: Any) -> Provider:
    return ak.Config(providers={"bfl": {"api_key": "sandbox", **settings}}).provider_list()[0]


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said_by", ["config", "environment"])
def test_a_job_goes_through_the_proxy(
    kind: str, said_by: str, bfl: Emulator, proxy: TinyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"proxy": proxy.url} if said_by == "config" else {}
    if said_by == "environment":
        monkeypatch.setenv("HTTP_PROXY", proxy.url)

    result = generate(kind, ak.Config(providers={"bfl": renamed(bfl)}, network=network))

    assert result.images[0].data
    assert {"http://kontext.test"} == {one.split(" ")[1].rpartition(":")[0] for one in proxy.asked}
    assert (1, 1, 0) == tuple(bfl.counters[name] for name in ("accepted", "downloads", "key_leaks"))


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said_by", ["config", "environment"])
def test_this_machine_is_never_reached_through_a_proxy(
    kind: str, said_by: str, bfl: Emulator, proxy: TinyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"proxy": proxy.url} if said_by == "config" else {}
    if said_by == "environment":
        monkeypatch.setenv("ALL_PROXY", proxy.url)

    assert generate(kind, ak.Config(providers={"bfl": bfl.config()}, network=network)).images
    assert not proxy.heads


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_is_down_is_named_without_its_password_and_nothing_was_accepted(kind: str, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    config = ak.Config(
        providers={"bfl": {"api_key": "sandbox"}}, network={"proxy": f"http://me:{SECRET}@127.0.0.1:{port}"}
    )

    with pytest.raises(ak.Unavailable) as raised:
        generate(kind, config, deadline=0.3)

    assert not raised.value.maybe_charged
    assert f"through the proxy http://127.0.0.1:{port}, from Config: network.proxy" in str(raised.value)
    assert SECRET not in f"{raised.value!r} {raised.value} {config!r}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_echoes_what_it_was_told_is_not_quoted(kind: str, scheme: str, spool: Spool) -> None:
    password = "a/password-0123"
    basic = b64encode(f"me:{password}".encode()).decode()
    proxy = TinyProxy(refuses=f"407 Not {password} {basic}\r\nX-Echo: {basic}")
    way = network_of(proxy.url.replace("//", f"//me:{quote(password, safe='')}@"), None, {}, WHERE)
    send = Send(
        get(Purpose.POLL, url := f"{scheme}://kontext.test/x"),
        provider(),
        Address(url, signed=False, guarded=False),
        5.0,
    )

    heard = drive(kind, spool, way, lambda driver: driver.exchange(send))
    proxy.close()

    assert isinstance(heard, Reply if scheme == "http" else Lost)
    assert basic in proxy.heads[0]
    assert not [one for one in (password, basic) if one in repr(heard)]


def test_the_log_of_a_socks_handshake_tells_no_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "httpcore.socks"):
        logging.getLogger("httpcore.socks").debug("setup_socks5_connection.started auth=(b'me', b'secret')")
        logging.getLogger("httpcore.socks").debug("setup_socks5_connection.complete")

    assert ["setup_socks5_connection.complete"] == caplog.messages


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_is_told_the_host_alone_and_its_refusal_means_not_sent(kind: str, status: str, spool: Spool) -> None:
    proxy = TinyProxy(refuses=status)
    url = "https://api.bfl.ai/v1/get_result?id=1'2&sig=secret"
    send = Send(get(Purpose.POLL, url), provider(), Address(url, signed=True, guarded=False), 5.0)

    heard = drive(kind, spool, behind(proxy), lambda driver: driver.exchange(send))
    proxy.close()

    assert isinstance(heard, Lost)
    assert Loss.NOT_CONNECTED == heard.loss
    assert ["CONNECT api.bfl.ai:443 HTTP/1.1"] == proxy.asked
    assert "secret" not in proxy.heads[0]
    assert "sandbox" not in proxy.heads[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_link_passes_a_proxy_byte_for_byte(kind: str, proxy: TinyProxy, server: Any, spool: Spool) -> None:
    server.replies(b"no image")
    link = f"http://kontext.test:{server.port}/a.jpg?sig=a%2fb'(c)"
    what = Download(link, provider(base_url="http://kontext.test", allow_http=True), 5.0)

    told = fetched(kind, spool, behind(proxy), what)

    assert isinstance(told, NotDownloaded)
    assert [f"GET {link} HTTP/1.1"] == proxy.asked
    assert b"/a.jpg?sig=a%2fb'(c) HTTP/1.1" in server.requests[0]
    assert Fault.BAD == told.fault


def fetched(kind: str, spool: Spool, network: Network, what: Download) -> Any:
    def flow() -> Any:
        told = yield what
        return told.value

    return drive(kind, spool, network, lambda driver: driver.run(flow(), Notifier()))


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_proxy_only_known_hosts_are_downloaded_from(kind: str, proxy: TinyProxy, spool: Spool) -> None:
    told = fetched(kind, spool, behind(proxy), Download("https://169.254.169.254/a.jpg", provider(), 5.0))

    assert Fault.FORBIDDEN == told.fault
    assert "behind a proxy names are resolved out of our sight" in told.message
    assert not proxy.heads


@pytest.mark.parametrize("kind", KINDS)
def test_behind_a_proxy_no_input_url_is_fetched(kind: str, proxy: TinyProxy, spool: Spool) -> None:
    image = InputImage(None, "https://delivery.bfl.ai/a.jpg", None, None, None, "a.jpg")

    with pytest.raises(ak.InvalidRequest, match=r"behind a proxy .*; give the image's bytes"):
        drive(kind, spool, behind(proxy), lambda driver: driver.fetch_input(image, provider(), 5.0))
    assert not proxy.heads


ENVIRON = {"HTTPS_PROXY": "http://secure:1", "ALL_PROXY": "http://all:2"}


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        (ENVIRON, "https://api.bfl.ai/v1", "http://secure:1"),
        (ENVIRON, "http://api.bfl.ai/v1", "http://all:2"),
        ({"https_proxy": "small:3", "HTTPS_PROXY": "http://capital:4"}, "https://api.bfl.ai", "http://small:3"),
        ({"HTTPS_PROXY": " "}, "https://api.bfl.ai", None),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, "http://api.bfl.ai", None),
        (ENVIRON, "https://localhost:8000", None),
        (ENVIRON, "https://[::1]:8000", None),
        ({**ENVIRON, "NO_PROXY": "*"}, "https://api.bfl.ai", None),
        ({**ENVIRON, "NO_PROXY": "other.org, .BFL.ai"}, "https://api.bfl.ai", None),
        ({**ENVIRON, "NO_PROXY": "bfl.ai"}, "https://api.bfl.ai", None),
        ({**ENVIRON, "NO_PROXY": "fl.ai"}, "https://api.bfl.ai", "http://secure:1"),
        ({**ENVIRON, "NO_PROXY": "api.bfl.ai:8443"}, "https://api.bfl.ai", "http://secure:1"),
        ({**ENVIRON, "NO_PROXY": "api.bfl.ai:443"}, "https://api.bfl.ai", None),
        ({**ENVIRON, "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({**ENVIRON, "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", "http://secure:1"),
    ],
)
def test_the_environment_says_which_proxy(environ: Mapping[str, str], url: str, expected: str | None) -> None:
    found = network_of(None, None, environ, WHERE).proxy_of(url)

    assert expected == (None if found is None else str(found))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"ftp://me:{SECRET}@proxy", "the URL of a proxy is needed"),
        (f"http://me:{SECRET}@proxy:port", "the URL of a proxy is needed"),
        (f"http://me:{SECRET}@", "the URL of a proxy is needed"),
        (f"socks5://me:{SECRET}@proxy:1080", 'pip install "httpx\\[socks]"'),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    url: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for made in (lambda: network_of(url, None, {}, WHERE), lambda: network_of(None, None, {"ALL_PROXY": url}, WHERE)):
        with pytest.raises(ConfigurationError, match=told) as raised:
            made()
        assert str(raised.value).startswith(("a.toml, line 2", "$ALL_PROXY"))
        assert SECRET not in str(raised.value)


def test_the_certificates_of_ca_file_are_trusted_and_no_others(tmp_path: Path) -> None:
    first = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    (tmp_path / "ca.pem").write_text(first[0] + first[1])

    network = network_of(None, tmp_path / "ca.pem", {}, WHERE)

    assert 1 == len(network.tls.get_ca_certs())


@pytest.mark.parametrize(("name", "told"), [("none.pem", "No such file"), ("text.pem", "no certificates"), (".", "")])
def test_a_ca_file_that_cannot_be_used_is_named_with_file_and_line(home: Path, name: str, told: str) -> None:
    (home / "text.pem").write_text("hello")
    (home / "a.toml").write_text(f"[providers.bfl]\n[network]\nca_file = '{name}'\n")

    with pytest.raises(ConfigurationError, match=rf"a\.toml, line 3: network\.ca_file: .*{told}"):
        ak.Client(home / "a.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_of_the_callers_beside_another_way_out_is_refused(kind: str, home: Path) -> None:
    config = ak.Config(providers={"bfl": {"api_key": "sandbox"}}, network={"proxy": "http://proxy:3128"})
    made: Any = ak.Client if kind == "sync" else ak.AsyncClient
    theirs: Any = httpx.Client if kind == "sync" else httpx.AsyncClient

    with pytest.raises(ConfigurationError, match="you brought an http_client"):
        made(config, http_client=theirs(transport=httpx.MockTransport(lambda _: httpx.Response(500))))


@pytest.mark.parametrize(("network", "uses_sdk"), [({}, True), ({"proxy": "http://proxy:3128"}, False)])
def test_a_vendors_sdk_never_goes_around_the_proxy(network: dict[str, str], uses_sdk: bool) -> None:
    config = ak.Config(providers={"fal": {"api_key": "sandbox:sandbox"}}, network=network)

    assert uses_sdk == config.provider_list()[0].can_upload
