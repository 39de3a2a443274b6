"""One HTTP exchange as plain data: what an adapter makes (`Call`) and what it reads (`Reply`). No key is ever in them.

Bodies are parts with a known length, so that a base64 image is encoded while it is sent and never built as one string.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pybase64

from anykontext.model.frozen import Frozen
from anykontext.model.image import InputImage

CHUNK = 196_608  # bytes; a multiple of 3, so that no padding falls into the middle of a base64 text


class Purpose(StrEnum):
    """What an exchange is for: the money rules and the signing go by it."""

    SUBMIT = "submit"
    POLL = "poll"
    FETCH = "fetch"
    CANCEL = "cancel"
    CHECK = "check"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Base64:
    """Bytes that travel as base64 text.

    Attributes:
        data: The bytes before encoding; never in a repr.
        prefix: What stands before the text, such as `data:image/png;base64,`: ASCII that needs no escape in JSON.
    """

    data: bytes | memoryview = field(repr=False)
    prefix: str = ""

    def __len__(self) -> int:
        return len(self.prefix) + 4 * ((len(self.data) + 2) // 3)

    def chunks(self) -> Iterator[bytes]:
        """The text in pieces of at most 256 KiB, encoded as they are asked for."""
        if self.prefix:
            yield self.prefix.encode("ascii")
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK):
            yield pybase64.b64encode(view[start : start + CHUNK])


Part = bytes | Base64


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a call: parts that are sent one after the other.

    Attributes:
        parts: Ready bytes, and images to be encoded on the way.
        media_type: The Content-Type.
    """

    parts: tuple[Part, ...] = field(repr=False)
    media_type: str = "application/json"

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they go over the wire; each call starts anew."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.chunks()

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())


def json_body(fields: Mapping[str, Any]) -> Body:
    """A JSON object as a body; values may hold `Base64` anywhere, which is spliced in unencoded.

    >>> bytes(json_body({"prompt": "a cat", "seed": 0, "image": Base64(b"abc")}))
    b'{"prompt":"a cat","seed":0,"image":"YWJj"}'
    """
    parts: list[Part] = []
    ready = bytearray()
    for piece in _pieces(fields):
        if isinstance(piece, Base64):
            parts += [bytes(ready), piece]
            ready = bytearray()
        else:
            ready += piece
    return Body((*parts, bytes(ready)))


def _pieces(value: Any) -> Iterator[Part]:
    if isinstance(value, Base64):
        yield b'"'
        yield value
        yield b'"'
    elif isinstance(value, Mapping):
        yield b"{"
        for index, (key, item) in enumerate(value.items()):
            if not isinstance(key, str):
                raise TypeError(f"a key of a JSON object is a text, not {type(key).__name__}")
            yield (b"," if index else b"") + orjson.dumps(key) + b":"
            yield from _pieces(item)
        yield b"}"
    elif isinstance(value, list | tuple):
        yield b"["
        for index, item in enumerate(value):
            yield b"," if index else b""
            yield from _pieces(item)
        yield b"]"
    else:
        yield orjson.dumps(value)


def form_body(fields: Mapping[str, str], file: InputImage, name: str, *, field: str = "file") -> Body:
    """A multipart form (RFC 7578) of texts and one image, whose bytes are neither copied nor encoded.

    The boundary is made from the content, so that the same form is always the same bytes.

    Args:
        fields: The texts.
        file: The image; its `data` is sent.
        name: Its file name, of ASCII letters without quotes.
        field: The name of the form's field for the file.
    """
    assert file.data is not None
    boundary = f"anykontext-{sha256(file.data).hexdigest()[:32]}"  # RFC 2046: at most 70 characters
    texts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    )
    head = (
        f'{texts}--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: {file.media_type}\r\n\r\n"
    )
    parts = (head.encode(), bytes(file.data), f"\r\n--{boundary}--\r\n".encode())
    return Body(parts, f"multipart/form-data; boundary={boundary}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a provider, without its key.

    Attributes:
        purpose: What it is for.
        method: The HTTP method.
        path: The path below the named origin, or a full URL that was taken from a reply.
        origin: The name of the origin in the adapter's facts; None when `path` is a full URL.
        headers: Further headers; never one that carries a key.
        body: What is sent, if anything.
    """

    purpose: Purpose
    method: str
    path: str
    origin: str | None = "api"
    headers: Mapping[str, str] = field(default_factory=Frozen)
    body: Body | None = None


def get(purpose: Purpose, path: str, *, origin: str | None = "api", query: Mapping[str, str] | None = None) -> Call:
    """A GET of a path below an origin, or of a full URL (`origin=None`)."""
    return Call(purpose, "GET", path + (f"?{urlencode(query, quote_via=quote)}" if query else ""), origin)


def post(purpose: Purpose, path: str, fields: Mapping[str, Any], *, origin: str | None = "api") -> Call:
    """A POST of a JSON object."""
    return Call(purpose, "POST", path, origin, body=json_body(fields))


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole and bounded in size by the driver.

    Attributes:
        call: What it answers.
        status: The HTTP status code.
        headers: Names in lower case.
        body: The bytes after content decoding.
    """

    call: Call
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON, or None when it is not: HTML, a torn text, NaN, not UTF-8, too deep (F40, F41, F44)."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def mapping(self) -> Mapping[str, Any]:
        """The body as a JSON object; empty when it is none."""
        found = self.json()
        return found if isinstance(found, dict) else {}

    @property
    def retry_after(self) -> str | None:
        """The Retry-After header as it came, on 429 and 503 only: bfl sends one with every 200 (quirk bfl-4)."""
        return self.headers.get("retry-after") if self.status in {429, 503} else None
