"""Cassettes without secrets: what is kept of an exchange when it is recorded, and how it is replayed.

    with recording("cassettes/bfl/edit.yaml", origin="recorded-live", secrets=[key], notes=["edit of a photo"]):
        client.edit("photo.jpg", "make it blue")

    with replaying("cassettes/bfl/edit.yaml") as cassette:
        client.edit("photo.jpg", "make it blue")
    assert cassette.all_played

The rules, which hold for every cassette of the project:

1. Its first lines are comments that say how it was made: `# origin: ` and `recorded-live`, `recorded-from-emulator` or
   `from-published-payloads`, then the date, what was filtered, and notes such as the sources.
2. Headers are kept by allow-list (`REQUEST_HEADERS`, `RESPONSE_HEADERS`): a key has no place to hide in.
3. The `secrets` given are cut out of URLs and bodies, plain, in base64 and escaped for URLs.
4. The values of query parameters that sign or authorize (`SIGNING`) are cut out, in URLs and wherever bodies hold
   URLs; account ids in links, too.
5. Long base64 becomes `IMAGE` in requests, and in replies the base64 of a tiny picture, which can be decoded.
6. The body of a picture becomes a tiny picture of the same format.
7. Hosts are renamed as told (`hosts`), so that a recording on loopback does not depend on ports.

Requests are matched by method, URL and body, after the same cleaning: a cassette is a contract of what is sent. All of
it is played once. What a person wrote (prompts) stays: record with prompts that may be read by anybody.
"""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

Origin = Literal["recorded-live", "recorded-from-emulator", "from-published-payloads"]
ORIGINS = ("recorded-live", "recorded-from-emulator", "from-published-payloads")
FILTERED = "FILTERED"
IMAGE = "FILTERED-IMAGE"
ACCOUNT = "ACCOUNT"
REQUEST_HEADERS = frozenset({"accept", "content-type"})
RESPONSE_HEADERS = frozenset(
    {
        *("content-encoding", "content-type", "date", "location", "retry-after"),
        *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
        *("x-fal-billable-units", "x-fal-error-type", "x-fal-needs-retry", "x-fal-request-id"),
        *("x-fal-request-timeout-type", "x-fal-retryable"),
    }
)
SIGNING = (
    *("sig", "signature", "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature"),
    *("x-goog-credential", "token", "access_token", "key", "api_key", "apikey", "policy", "key-pair-id", "hmac"),
)
MATCH_ON = ("method", "uri", "body")

_SIGNED = re.compile(rf"((?:[?&]|\\u0026|&amp;)(?:{'|'.join(SIGNING)})=)[^&\s\"'<>\\]+", re.IGNORECASE)
_TOKEN = re.compile(r'("(?:token|access_token)"\s*:\s*")[^"]*')  # what a provider hands out instead of the key
_BASE64 = re.compile(r"(?:[A-Za-z0-9+_-]|\\?/|\\[rn]){200,}={0,2}")
_ACCOUNT = re.compile(r"\b(kieai(?:/|\\/))[0-9]+")  # an account id in the links of kie.ai's file host
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"GIF8": "GIF"}


@dataclass(frozen=True)
class Filter:
    """What is cleaned, and how: pure functions of the texts of an exchange.

    Attributes:
        secrets: Texts that must not be in a cassette, such as the key; never shown.
        hosts: Origins to be renamed, such as `http://127.0.0.1:41001` to `https://api.bfl.example`.
    """

    secrets: Sequence[str] = field(default=(), repr=False)
    hosts: Mapping[str, str] = field(default_factory=dict)

    def text(self, text: str, *, image: str) -> str:
        """A URL or body without secrets and signatures, with hosts renamed and `image` for long base64."""
        for old, new in self.hosts.items():
            text = text.replace(old, new).replace(old.replace("/", "\\/"), new.replace("/", "\\/"))
        for secret in self.secrets:
            encoded = base64.b64encode(secret.encode()).decode()
            for form in (secret, encoded, encoded.rstrip("="), quote(secret, safe="")):
                text = text.replace(form, FILTERED)
        text = _TOKEN.sub(rf"\1{FILTERED}", _SIGNED.sub(rf"\1{FILTERED}", text))
        text = _ACCOUNT.sub(rf"\1{ACCOUNT}", text)
        return _BASE64.sub(image, text)

    def url(self, url: str) -> str:
        """A URL; its path is never taken for base64."""
        return self.text(url, image=r"\g<0>")

    def request_body(self, body: bytes | None) -> bytes | None:
        """The body of a request; of a form its files, and of anything else what is no text, are dropped."""
        if not body:
            return body
        if body.startswith(b"--") and b"\r\n" in body:
            body = _without_files(body)
        try:
            return self.text(body.decode(), image=IMAGE).encode()
        except UnicodeDecodeError:
            return FILTERED.encode()

    def response_body(self, body: bytes) -> bytes:
        """The body of a reply; a picture becomes a tiny one, and what is neither text nor picture is dropped."""
        picture = next((name for magic, name in _MAGIC.items() if body.startswith(magic)), None)
        if picture:
            return tiny_picture(picture)
        try:
            return self.text(body.decode(), image=base64.b64encode(tiny_picture("PNG")).decode()).encode()
        except UnicodeDecodeError:
            return FILTERED.encode()

    def headers(self, headers: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
        """The headers that are allowed, each cleaned; names in lower case."""
        kept = {name.lower(): value for name, value in headers.items() if name.lower() in allowed}
        return {
            name: [self.url(one) for one in value] if isinstance(value, list) else self.url(str(value))
            for name, value in sorted(kept.items())
        }


def _without_files(form: bytes) -> bytes:
    """A multipart form with its binary parts replaced; it begins with its boundary."""
    boundary = form.partition(b"\r\n")[0]
    parts = []
    for part in form.split(boundary):
        head, gap, content = part.partition(b"\r\n\r\n")
        try:
            content.decode()
        except UnicodeDecodeError:
            content = IMAGE.encode() + b"\r\n"
        parts.append(head + gap + content)
    return boundary.join(parts)


def tiny_picture(form: str) -> bytes:
    """A picture of 8 x 8 pixels in a format of Pillow's."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8), "steelblue").save(out, form)
    return out.getvalue()


def before_record_request(rules: Filter) -> Callable[[Any], Any]:
    """The function that vcrpy wants: it cleans a request before it is recorded, and before it is looked up."""

    def clean(request: Any) -> Any:
        request.uri = rules.url(request.uri)
        request.headers = rules.headers(request.headers, REQUEST_HEADERS)
        request.body = rules.request_body(request.body)
        return request

    return clean


def before_record_response(rules: Filter) -> Callable[[Any], Any]:
    """The function that vcrpy wants: it cleans a reply before it is recorded."""

    def clean(response: Any) -> Any:
        body = response["body"]["string"]
        cleaned = rules.response_body(body.encode() if isinstance(body, str) else body)
        headers = rules.headers(response["headers"], RESPONSE_HEADERS)
        return {**response, "headers": headers, "body": {"string": cleaned}}

    return clean


def header(origin: Origin, date: str, notes: Sequence[str] = ()) -> str:
    """The first lines of a cassette.

    Raises:
        ValueError: The origin is none of the three.
    """
    if origin not in ORIGINS:
        raise ValueError(f"a cassette is one of {', '.join(ORIGINS)}, not {origin!r}")
    filtered = "keys, signatures, input images; result pictures are tiny stand-ins; headers by allow-list"
    lines = [f"origin: {origin}", f"date: {date}", *notes, f"filtered: {filtered}"]
    return "".join(f"# {line}\n" for line in lines)


@contextmanager
def recording(
    path: str | Path,
    *,
    origin: Origin,
    secrets: Sequence[str] = (),
    hosts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Iterator[Any]:
    """Record what httpx exchanges in this block into a new cassette; an old one at this path is replaced.

    Args:
        path: The file.
        origin: How it is made.
        secrets: Texts that must not be in it.
        hosts: Origins to be renamed.
        notes: Further lines of its header.
    """
    path = Path(path)
    path.unlink(missing_ok=True)
    top = header(origin, datetime.now(UTC).date().isoformat(), notes)
    try:
        with _vcr(Filter(secrets, hosts or {})).use_cassette(str(path), record_mode="all") as cassette:
            yield cassette
    finally:
        if path.exists():
            path.write_text(top + path.read_text(encoding="utf-8"), encoding="utf-8")


@contextmanager
def replaying(path: str | Path) -> Iterator[Any]:
    """Answer httpx from a cassette; nothing reaches the network.

    `cassette.all_played` tells afterwards whether every exchange was asked for.

    Raises:
        AssertionError: At the end, when something else was asked for. A client may take that for a lost connection, and
            a test would not see it.
    """
    unknown: list[str] = []
    with _vcr(Filter()).use_cassette(str(path), record_mode="none", allow_playback_repeats=False) as cassette:
        known = cassette.can_play_response_for

        def watched(request: Any) -> bool:
            found = bool(known(request))
            if not found:
                unknown.append(f"{request.method} {request.uri.partition('?')[0]}")
            return found

        cassette.can_play_response_for = watched
        yield cassette
    if unknown:
        raise AssertionError(f"not in the cassette {path}: {', '.join(unknown)}")


def _vcr(rules: Filter) -> Any:
    import vcr  # type: ignore[import-untyped]

    return vcr.VCR(
        before_record_request=before_record_request(rules),
        before_record_response=before_record_response(rules),
        match_on=MATCH_ON,
        decode_compressed_response=True,
    )
