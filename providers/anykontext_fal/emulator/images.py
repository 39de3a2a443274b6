"""Input images as fal takes them: data URIs, and links that it fetches itself (fal sheet §4)."""

import base64
import binascii
import hashlib
import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

FIELDS = ("image_url", "image_urls")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FETCH_SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One input image: its bytes from a data URI, or its link; neither when it cannot be understood."""

    field: str
    text: str
    data: bytes | None = None
    media_type: str | None = None

    def described(self) -> Mapping[str, Any]:
        """What the emulator remembers of it."""
        if self.data is None:
            return {"field": self.field, "url": self.text}
        digest = hashlib.sha256(self.data).hexdigest()
        return {"field": self.field, "bytes": len(self.data), "media_type": self.media_type, "sha256": digest}


def sources(body: Any) -> list[Source]:
    """The input images of any body, right or wrong."""
    if not isinstance(body, dict):
        return []
    found: list[Source] = []
    for field in FIELDS:
        value = body.get(field)
        texts = value if isinstance(value, list) else [value]
        found += [_source(field, text) for text in texts if isinstance(text, str)]
    return found


def _source(field: str, text: str) -> Source:
    head, comma, rest = text.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        return Source(field, text)
    try:
        data = base64.b64decode(rest, validate=True)
    except (binascii.Error, ValueError):
        return Source(field, text)
    return Source(field, text, data, head.removeprefix("data:").removesuffix(";base64"))


def load(source: Source, own: Callable[[str], bytes | None]) -> bytes | None:
    """The bytes of an image; None when they cannot be had. `own` finds what was uploaded here."""
    if source.data is not None:
        return source.data
    return own(source.text) or fetch(source.text)


def fetch(url: str) -> bytes | None:
    """Get a link as fal does, who downloads it itself; the emulator never leaves this machine."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK:
            return None
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=FETCH_SECONDS)
        try:
            connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
            response = connection.getresponse()
            data = response.read(MOST_BYTES)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return data if response.status == 200 else None
