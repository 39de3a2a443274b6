"""Input images as Together takes them, and the pictures of a request."""

import base64
import binascii
import hashlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from anykontext.sandbox import pictures
from anykontext_together.emulator.fields import Refused

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FETCH_SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """The input image: its bytes from a data URI, or its URL."""

    data: bytes | None
    media_type: str | None
    url: str | None

    def described(self) -> Mapping[str, Any]:
        """What the emulator remembers of it."""
        if self.data is None:
            return {"field": "image_url", "url": self.url}
        digest = hashlib.sha256(self.data).hexdigest()
        return {"field": "image_url", "bytes": len(self.data), "media_type": self.media_type, "sha256": digest}


def source(text: str) -> Source:
    """The image of `image_url` (together-9).

    Raises:
        Refused: it is neither a data URI with base64 nor an http(s) URL.
    """
    if text.startswith(("http://", "https://")):
        return Source(None, None, text)
    head, comma, rest = text.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise Refused(400, "image_url must be a URL")
    try:
        data = base64.b64decode(rest, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "image_url is not a valid image") from None
    return Source(data, head.removeprefix("data:").removesuffix(";base64"), None)


def paint(asked: Mapping[str, Any], image: Source | None, *, seed: int, megapixels: float) -> list[bytes] | None:
    """The pictures as files, each with a seed of its own; None when the input image cannot be read."""
    ratio = asked.get("aspect_ratio")
    # Which of the two wins is not established; the newer page has it that Kontext goes by the ratio (together-7).
    # Without it the defaults of width and height hold, for edits too (together-8): the harder of two guesses.
    size = pictures.size_for(pictures.ratio_of(ratio), megapixels) if ratio else (asked["width"], asked["height"])
    data = _fetch(image.url) if image and image.url else image.data if image else b""
    if data is None:
        return None
    try:
        drawn = [
            pictures.edit([data], asked["prompt"], seed=seed + index, size=size)
            if image
            else pictures.generate(asked["prompt"], seed=seed + index, size=size)
            for index in range(asked["n"])
        ]
    except pictures.UnreadableImage:
        return None
    return [pictures.encode(one, asked["output_format"]) for one in drawn]


def _fetch(url: str) -> bytes | None:
    """Together downloads the URL itself; the emulator never leaves this machine."""
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
