"""Nothing secret gets into a cassette: proven by recording with known secrets, and by a scan of every file."""

import asyncio
import base64
import io
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from PIL import Image

import anykontext as ak
from anykontext.adapting import InputImage, form_body
from anykontext.sandbox import Sandbox
from anykontext.testing.recording import (
    FILTERED,
    IMAGE,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    SIGNING,
    Filter,
    header,
    recording,
    replaying,
    tiny_picture,
)

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "cassettes").glob("*/*.yaml"))
KEY = "bfl_s3cret+key/with-letters=that:clients-escape-0123456789"


def noise() -> bytes:
    """A picture that has no run of bytes in common with any other, as two JPEGs have their tables."""
    out = io.BytesIO()
    Image.frombytes("RGB", (96, 64), os.urandom(96 * 64 * 3)).save(out, "PNG")
    return out.getvalue()


PHOTO = noise()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANYKONTEXT_HOME", str(tmp_path / "home"))


def runs(data: bytes, length: int = 60) -> list[str]:
    """Pieces of a base64 text, each long enough to be its own proof."""
    text = base64.b64encode(data).decode()
    return [text[at : at + length] for at in range(0, len(text) - length, length * 10)]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_recording_holds_neither_key_nor_image_nor_signature(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykontext_bfl.emulator.api.KEYS", {KEY})
    monkeypatch.setattr("anykontext_bfl.emulator.api.KEY_FORM", re.compile(".+"))
    path = tmp_path / "edit.yaml"
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        emulator = sandbox.emulators["bfl"]
        emulator.megapixels = 0.05
        signed: list[str] = []
        sign = emulator.blobs.sign  # type: ignore[attr-defined]
        emulator.blobs.sign = lambda task: signed.append(sign(task)) or signed[-1]  # type: ignore[attr-defined]
        hosts = {origin: f"https://{role}.bfl.example" for role, origin in emulator.origins.items()}
        with recording(path, origin="recorded-from-emulator", secrets=[KEY], hosts=hosts):
            result = edit(kind, {"api_key": KEY, "base_url": emulator.origins["api"], "poll_interval_s": 0.02})
            # BFL's 422 echoes the whole body (bfl-12), and a careless proxy echoes the key.
            body = {"input_image": base64.b64encode(PHOTO).decode(), "safety_tolerance": KEY, "seed": KEY}
            echo = httpx.post(f"{emulator.origins['api']}/v1/flux-kontext-pro", json=body, headers={"x-key": KEY})
            httpx.get(f"{emulator.origins['api']}/v1/credits", params={"x": KEY}, headers={"Authorization": KEY})

    assert 422 == echo.status_code
    assert KEY in echo.text
    assert base64.b64encode(PHOTO).decode() in echo.text
    text = path.read_text(encoding="utf-8")
    joined = re.sub(r"\s+", "", text)  # YAML folds long lines
    key = base64.b64encode(KEY.encode()).decode()
    for secret in (KEY, quote(KEY, safe=""), key, key.rstrip("="), KEY[4:30]):
        assert secret not in joined
    for signature in (url.partition("sig=")[2] for url in signed):
        assert len(signature) > 40
        assert signature not in joined
    for run in runs(PHOTO) + runs(result.image.data):
        assert run not in joined
    assert "sig=FILTERED" in joined
    assert IMAGE in joined
    assert "127.0.0.1" not in joined
    assert text.startswith("# origin: recorded-from-emulator\n# date: ")


def edit(kind: str, provider: dict[str, Any]) -> ak.ImageResult:
    config = ak.Config(providers={"bfl": provider})
    if kind == "Client":
        with ak.Client(config) as client:
            return client.edit(PHOTO, "make it blue", seed=7, output_format="png")

    async def main() -> ak.ImageResult:
        async with ak.AsyncClient(config) as client:
            return await client.edit(PHOTO, "make it blue", seed=7, output_format="png")

    return asyncio.run(main())


def test_what_was_recorded_by_one_client_is_replayed_by_the_other(tmp_path: Path) -> None:
    path = tmp_path / "edit.yaml"
    with Sandbox(providers=["bfl"], seconds=0.05) as sandbox:
        emulator = sandbox.emulators["bfl"]
        emulator.megapixels = 0.02
        provider = {"api_key": "sandbox", "base_url": emulator.origins["api"], "poll_interval_s": 0.02}
        hosts = {origin: f"https://{role}.bfl.example" for role, origin in emulator.origins.items()}
        with recording(path, origin="recorded-from-emulator", hosts=hosts) as recorded:
            edit("AsyncClient", provider)

    with replaying(path) as cassette:
        result = edit("Client", {**provider, "base_url": "https://api.bfl.example"})

    assert 7 == result.seed
    assert len(recorded) == cassette.play_count
    assert cassette.all_played


def test_a_recording_that_ends_in_an_error_has_its_header_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "failed.yaml"
    path.write_text("an older recording")
    with (
        Sandbox(providers=["bfl"], faults=["bad-key"]) as sandbox,
        pytest.raises(ak.AuthenticationFailed),
        recording(path, origin="recorded-from-emulator", notes=["scene: a wrong key"]),
    ):
        edit("Client", {"api_key": "sandbox", "base_url": sandbox.origins["bfl"]["api"]})

    assert "# scene: a wrong key" in path.read_text().splitlines()[:4]
    assert 1 == len(yaml.safe_load(path.read_text())["interactions"])


class TestFilter:
    """The rules, one by one."""

    @pytest.mark.parametrize("name", SIGNING)
    def test_the_value_of_every_signing_parameter_goes(self, name: str) -> None:
        url = f"https://x.example/a.png?se=2026&{name.upper()}=abc%2Bdef%3D&sp=r"

        assert f"https://x.example/a.png?se=2026&{name.upper()}=FILTERED&sp=r" == Filter().url(url)

    @pytest.mark.parametrize(
        "body",
        [
            '{"url": "https://x.example/a.png?sig=abc%2Bdef&se=1"}',
            '{"url": "https:\\/\\/x.example\\/a.png?se=1\\u0026sig=abc%2Bdef"}',
            '<a href="https://x.example/a.png?se=1&amp;sig=abc%2Bdef">',
            "https://x.example/a.png?sig=abc%2Bdef\n",
        ],
    )
    def test_signatures_in_bodies_go_in_every_spelling(self, body: str) -> None:
        cleaned = Filter().response_body(body.encode()).decode()

        assert "abc" not in cleaned
        assert body.replace("abc%2Bdef", FILTERED) == cleaned

    @pytest.mark.parametrize("form", ["plain", "data URI", "slashes escaped", "lines", "url-safe"])
    def test_long_base64_goes_in_every_spelling(self, form: str) -> None:
        text = base64.b64encode(PHOTO[:3000]).decode()
        spelt = {
            "plain": text,
            "data URI": f"data:image/jpeg;base64,{text}",
            "slashes escaped": text.replace("/", "\\/"),
            "lines": "\\n".join(re.findall(".{1,76}", text)),
            "url-safe": base64.urlsafe_b64encode(PHOTO[:3000]).decode(),
        }[form]

        cleaned = Filter().request_body(f'{{"a":1,"image":"{spelt}","b":2}}'.encode())

        prefix = "data:image/jpeg;base64," if form == "data URI" else ""
        assert f'{{"a":1,"image":"{prefix}{IMAGE}","b":2}}'.encode() == cleaned

    def test_base64_in_a_reply_becomes_a_picture_that_can_be_decoded(self) -> None:
        body = json.dumps({"image": base64.b64encode(PHOTO).decode()}).encode()

        cleaned = json.loads(Filter().response_body(body))

        assert tiny_picture("PNG") == base64.b64decode(cleaned["image"], validate=True)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
    def test_a_picture_becomes_a_tiny_one_of_its_format(self, form: str) -> None:
        out = io.BytesIO()
        Image.linear_gradient("L").save(out, form)

        assert tiny_picture(form) == Filter().response_body(out.getvalue())
        assert Image.open(io.BytesIO(tiny_picture(form))).format == form

    def test_what_is_neither_text_nor_picture_goes(self) -> None:
        assert FILTERED.encode() == Filter().response_body(b"\x00\xff\x00\xff")
        assert FILTERED.encode() == Filter().request_body(b"\x00\xff\x00\xff")

    def test_an_empty_body_stays(self) -> None:
        assert Filter().request_body(None) is None
        assert b"" == Filter().request_body(b"")
        assert b"" == Filter().response_body(b"")

    def test_only_listed_headers_stay_and_are_cleaned(self) -> None:
        headers = {
            "X-Key": KEY,
            "Authorization": f"Key {KEY}",
            "Cookie": "id=1",
            "Content-Type": "application/json",
            "Location": ["https://x.example/?sig=abc"],
            "X-Account-Id": "42",
        }

        assert {"content-type": "application/json"} == Filter().headers(headers, REQUEST_HEADERS)
        assert {
            "content-type": "application/json",
            "location": ["https://x.example/?sig=FILTERED"],
        } == Filter().headers(headers, RESPONSE_HEADERS)

    def test_cleaning_twice_changes_nothing(self) -> None:
        rules = Filter([KEY], {"http://127.0.0.1:4": "https://x.example"})
        url = f"http://127.0.0.1:4/a?sig=abc&x={quote(KEY, safe='')}"
        body = json.dumps({"image": base64.b64encode(PHOTO).decode(), "key": KEY, "url": url}).encode()

        assert rules.url(url) == rules.url(rules.url(url))
        assert rules.request_body(body) == rules.request_body(rules.request_body(body))
        assert rules.response_body(body) == rules.response_body(rules.response_body(body))

    def test_secrets_are_not_in_its_repr(self) -> None:
        assert KEY not in repr(Filter([KEY]))

    def test_an_origin_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="recorded-live"):
            header("made-up", "2026-11-20")  # type: ignore[arg-type]


SECRET_HEADERS = re.compile(r"(?i)\b(x-key|authorization|api-key|x-api-key|cookie|set-cookie)\b")
SIGNED = re.compile(rf"(?i)[?&](?:{'|'.join(SIGNING)})=(?!FILTERED(?:[&\s\"'<>]|$))")
LONG = re.compile(r"[A-Za-z0-9+/_-]{120,}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_committed_cassette_holds_nothing_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    interactions = yaml.safe_load(text)["interactions"]

    assert interactions
    assert not SECRET_HEADERS.search(text)
    assert "127.0.0.1" not in text
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    for one in interactions:
        request, response = one["request"], one["response"]
        assert REQUEST_HEADERS >= request["headers"].keys()
        assert RESPONSE_HEADERS >= response["headers"].keys()
        body = response["body"]["string"]
        if isinstance(body, bytes):
            assert len(body) < 2000, "a result picture is a tiny stand-in"
            assert body[:3] == b"\xff\xd8\xff"
            body = ""
        for part in (request["uri"], request["body"], body, str(response["headers"])):
            assert not SIGNED.search(part)
            assert not LONG.search(part)


def test_a_recorded_form_keeps_its_texts_and_loses_its_file() -> None:
    picture = InputImage(tiny_picture("PNG"), None, "image/png", 8, 8)
    body = bytes(form_body({"uploadPath": "anykontext", "note": "key s3cret-key"}, picture, "ab.png"))

    kept = Filter(["s3cret-key"]).request_body(body)

    assert kept is not None
    text = kept.decode()
    assert 'name="uploadPath"\r\n\r\nanykontext' in text
    assert f'filename="ab.png"\r\nContent-Type: image/png\r\n\r\n{IMAGE}\r\n' in text
    assert "s3cret-key" not in text
    assert FILTERED.encode() == Filter().request_body(b"\xff\xfe no text")


def test_a_token_and_an_account_id_of_a_reply_are_cut_out() -> None:
    body = b'{"token": "abc.def","url":"https://t.example/kieai/136592/images/1.png"}'

    assert b'{"token": "FILTERED","url":"https://t.example/kieai/ACCOUNT/images/1.png"}' == Filter().response_body(body)
