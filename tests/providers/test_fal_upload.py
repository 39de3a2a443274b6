"""Uploads by the vendor's client, on real sockets: where the file goes, and where the key does not (fal-21, fal-22)."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import fal_client.client
import pytest
from pydantic import SecretStr

import anykontext_fal
from anykontext.adapting import InputImage, Kind, Refused
from anykontext.sandbox import Sandbox
from anykontext_fal.facts import FACTS
from anykontext_fal.upload import upload

KEY = SecretStr("id-of-the-key:secret-of-the-key")
DATA = bytes(range(256)) * 200
PHOTO = InputImage(DATA, None, "image/png", 640, 480)
NAME = f"{sha256(DATA).hexdigest()[:16]}.png"
TOKEN = {"token": "a-token", "token_type": "Bearer", "expires_at": "2099-01-01T00:00:00+00:00"}


@dataclass(frozen=True)
class Seen:
    """A request that arrived at one of the hosts."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Host:
    """One of fal's hosts, which answers everything alike."""

    status: int = 200
    answer: Any = None
    seen: list[Seen] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Host, Host]]:
    """The REST host and the media host; the vendor's client is told of them by its constants, and waits for nothing."""
    found = Host(), Host()
    with ServerOf(found[0]) as rest, ServerOf(found[1]) as media:
        found[0].answer = {**TOKEN, "base_url": media}
        found[1].answer = {"access_url": f"{media}/files/lion/x_{NAME}"}
        monkeypatch.setattr(fal_client.client, "REST_URL", rest)
        monkeypatch.setattr(fal_client.client, "CDN_URL", media)
        monkeypatch.setattr(fal_client.client, "BASE_DELAY", 0.001)
        yield found


class ServerOf:
    """A host on a free port of loopback."""

    def __init__(self, host: Host) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                host.seen.append(Seen(self.command, self.path, headers, body))
                if host.status == 0:
                    self.close_connection = True
                    return
                answer = host.answer if isinstance(host.answer, bytes) else json.dumps(host.answer).encode()
                self.send_response(host.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_POST  # noqa: N815 - the name that http.server asks for

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        host.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.host = host

    def __enter__(self) -> str:
        self._thread.start()
        return self.host.url

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_fal_21_the_file_arrives_whole_with_its_type_and_a_name_of_its_content(hosts: tuple[Host, Host]) -> None:
    url = upload(PHOTO, KEY, 10)

    (sent,) = hosts[1].seen
    assert f"{hosts[1].url}/files/lion/x_{NAME}" == url
    assert ("POST", "/files/upload", DATA) == (sent.method, sent.path, sent.body)
    assert ("image/png", NAME) == (sent.headers["content-type"], sent.headers["x-fal-file-name"])


def test_fal_21_it_is_asked_to_be_kept_for_a_day(hosts: tuple[Host, Host]) -> None:
    upload(PHOTO, KEY, 10)

    assert {"expiration_duration_seconds": 86400} == json.loads(hosts[1].seen[0].headers["x-fal-object-lifecycle"])


@pytest.mark.parametrize("key", [KEY, KEY.get_secret_value()], ids=["secret", "text"])
def test_fal_22_the_key_goes_to_the_rest_host_only(hosts: tuple[Host, Host], key: SecretStr | str) -> None:
    rest, media = hosts

    upload(PHOTO, key, 10)

    assert ["/storage/auth/token?storage_type=fal-cdn-v3"] == [one.path for one in rest.seen]
    assert f"Key {KEY.get_secret_value()}" == rest.seen[0].headers["authorization"]
    assert ["Bearer a-token"] == [one.headers["authorization"] for one in media.seen]
    assert "secret-of-the-key" not in str(media.seen)


def test_fal_22_the_key_is_ours_and_not_that_of_the_environment(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAL_KEY", "of-the-environment")

    upload(PHOTO, KEY, 10)

    assert "of-the-environment" not in str(hosts)


REFUSALS = [
    (400, Kind.REQUEST_REJECTED),
    (401, Kind.AUTHENTICATION_FAILED),
    (403, Kind.AUTHENTICATION_FAILED),
    (429, Kind.RATE_LIMITED),
    (500, Kind.UNAVAILABLE),
    (503, Kind.UNAVAILABLE),
]


@pytest.mark.parametrize("which", [0, 1], ids=["rest", "media"])
@pytest.mark.parametrize(("status", "kind"), REFUSALS)
def test_fal_22_a_failed_upload_is_told_and_never_goes_to_the_fallback(
    hosts: tuple[Host, Host], which: int, status: int, kind: Kind
) -> None:
    hosts[which].status, hosts[which].answer = status, {"detail": f"no, {KEY.get_secret_value()}"}

    found = upload(PHOTO, KEY, 10)

    assert isinstance(found, Refused)
    assert kind is found.kind
    assert str(status) in found.message
    assert "secret-of-the-key" not in found.message
    assert {"/storage/auth/token?storage_type=fal-cdn-v3"} == {one.path for one in hosts[0].seen}
    assert {"/files/upload"} >= {one.path for one in hosts[1].seen}
    assert "secret-of-the-key" not in str(hosts[1].seen)


@pytest.mark.parametrize("which", [0, 1], ids=["rest", "media"])
def test_fal_22_a_lost_connection_is_raised_without_the_key(hosts: tuple[Host, Host], which: int) -> None:
    hosts[which].status = 0

    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever of its libraries speaks
        upload(PHOTO, KEY, 10)

    assert "secret-of-the-key" not in str(caught.value)
    assert {"/storage/auth/token?storage_type=fal-cdn-v3"} == {one.path for one in hosts[0].seen}


def test_fal_22_the_clients_repeats_end_with_the_time_given(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fal_client.client, "BASE_DELAY", 0.1)
    hosts[1].status = 0
    began = monotonic()

    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        upload(PHOTO, KEY, 0.2)

    assert monotonic() - began < 5
    assert 1 <= len(hosts[1].seen) < fal_client.client.MAX_ATTEMPTS


def test_a_key_in_an_error_of_the_client_is_hidden(hosts: tuple[Host, Host]) -> None:
    hosts[0].answer = {**TOKEN, "base_url": "", "expires_at": KEY.get_secret_value()}

    with pytest.raises(RuntimeError, match=r"\[key\]") as caught:
        upload(PHOTO, KEY, 10)

    assert "secret-of-the-key" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://v3.fal.media/a.png",
            "ftp://v3.fal.media/a",
            "https://",
            "https:///a",
            "/files/a",
            "",
            None,
            7,
            ["x"],
        ),
        *("https://[x", "https://v3.fal.media/a b", "https://v3.fal.media/a\n", "http://127.0.0.1.example/a"),
    ],
)
def test_only_a_plain_https_url_is_taken(hosts: tuple[Host, Host], url: Any) -> None:
    hosts[1].answer = {"access_url": url}

    found = upload(PHOTO, KEY, 10)

    assert isinstance(found, Refused)
    assert Kind.PROTOCOL_ERROR is found.kind


@pytest.mark.parametrize(
    ("media_type", "suffix"), [("image/jpeg", "jpg"), ("image/png", "png"), ("image/webp", "webp"), (None, "bin")]
)
def test_an_https_url_is_taken_for_every_type(hosts: tuple[Host, Host], media_type: str | None, suffix: str) -> None:
    hosts[1].answer = {"access_url": "https://v3.fal.media/files/lion/x"}

    url = upload(InputImage(DATA, None, media_type, 1, 1), KEY, 10)

    assert "https://v3.fal.media/files/lion/x" == url
    assert hosts[1].seen[0].headers["x-fal-file-name"].endswith(f".{suffix}")


@pytest.mark.sandbox
def test_fal_22_the_emulator_takes_it_and_sees_no_key_at_its_media_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(providers=["fal"]) as sandbox:
        emulator: Any = sandbox.emulators["fal"]
        monkeypatch.setattr(fal_client.client, "REST_URL", emulator.origins["rest"])
        monkeypatch.setattr(fal_client.client, "CDN_URL", emulator.origins["media"])

        url = upload(PHOTO, "sandbox:sandbox", 10)

        assert DATA == emulator.media.uploaded(url)
        assert (1, 1, 0) == tuple(emulator.counters[name] for name in ("tokens", "uploads", "key_leaks"))


def test_the_adapter_is_imported_without_the_vendors_client() -> None:
    code = "import sys, anykontext_fal; sys.exit('fal_client' in sys.modules or 'httpx' in sys.modules)"
    path = os.pathsep.join([str(Path(anykontext_fal.__file__).parents[1]), *sys.path])

    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)

    assert 0 == done.returncode


def test_fal_22_the_hosts_of_the_vendors_client_are_those_of_the_facts() -> None:
    code = "import fal_client.client as one; print(one.REST_URL, one.CDN_URL)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert [FACTS.origins["rest"], "https://v3.fal.media"] == said
