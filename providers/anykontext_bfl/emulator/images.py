"""Input images as BFL takes them, and the picture that a task makes (bfl sheet §3.1)."""

import base64
import binascii
import hashlib
import http.client
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from PIL import Image

from anykontext.sandbox import pictures

FIELDS = ("input_image", "input_image_2", "input_image_3", "input_image_4", "image_prompt")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
# The official SDK's limits; that the API enforces them, and so late, is [INF].
MOST_BASE64 = 20 * 1024 * 1024
MOST_PIXELS = 20_000_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FETCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Source:
    """One input image: its bytes, or its URL, or neither when it cannot be understood."""

    field: str
    data: bytes | None = None
    url: str | None = None

    def described(self) -> Mapping[str, Any]:
        """What the emulator remembers of it."""
        if self.data is None:
            return {"field": self.field, "url": self.url}
        digest = hashlib.sha256(self.data).hexdigest()
        return {"field": self.field, "bytes": len(self.data), "sha256": digest}


def sources(body: Mapping[str, Any]) -> list[Source]:
    """The input images of a body that was found valid."""
    return [_source(name, body[name]) for name in FIELDS if body.get(name) is not None]


def _source(field: str, value: str) -> Source:
    # `image_prompt` is base64 only [DOC].
    if field != "image_prompt" and value.lower().startswith(("http://", "https://")):
        return Source(field, url=value)
    # Strict base64: a `data:` prefix and newlines are undocumented (bfl sheet §3.1, §13.19); that
    # they end as a corrupted image is [INF], the harder of the two guesses.
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return Source(field)
    return Source(field, data=data if 0 < len(value) <= MOST_BASE64 else None)


def paint(
    body: Mapping[str, Any],
    inputs: Sequence[Source],
    *,
    seed: int,
    image_format: str,
    megapixels: float,
) -> bytes | None:
    """The task's picture as a file; None when an input image is missing or corrupted."""
    prompt = body["prompt"] or ""
    size = (body["width"], body["height"]) if "width" in body else None
    ratio = body.get("aspect_ratio")
    if not inputs:
        size = size or pictures.size_for(pictures.ratio_of(ratio or "1:1"), megapixels)
        return pictures.encode(pictures.generate(prompt, seed=seed, size=size), image_format)
    data = [loaded for source in inputs if (loaded := _load(source)) is not None]
    if len(data) < len(inputs):
        return None
    try:
        edited = pictures.edit(data, prompt, seed=seed, size=size, aspect_ratio=ratio, megapixels=megapixels)
    except pictures.UnreadableImage:
        return None
    return pictures.encode(edited, image_format)


def _load(source: Source) -> bytes | None:
    data = source.data if source.url is None else _fetch(source.url)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return data if image.width * image.height <= MOST_PIXELS else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning):
        return None


def _fetch(url: str) -> bytes | None:
    """BFL downloads URLs itself, late (bfl sheet §13.19); the emulator never leaves this machine."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() != "http" or parts.hostname not in LOOPBACK:
            return None
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=FETCH_SECONDS)
        try:
            connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
            response = connection.getresponse()
            data = response.read(MOST_BASE64)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return data if response.status == 200 else None
