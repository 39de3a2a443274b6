"""The input image as kie fetches it, and the picture that a task makes (kie sheet §2)."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from PIL import Image, ImageDraw, ImageFont

from anykontext.sandbox import pictures

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FETCH_SECONDS = 2.0
MOST_BYTES = 100 * 1024 * 1024


def fetched(url: str) -> bytes | None:
    """What lies at a URL; None when nothing does, or when it is not on this machine, which is never left."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() != "http" or parts.hostname not in LOOPBACK:
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


def paint(asked: Mapping[str, Any], prompt: str, data: bytes | None, *, seed: int, megapixels: float) -> bytes:
    """The task's picture as a file: an edit of `data`, where there is any.

    Raises:
        pictures.UnreadableImage: `data` is no picture.
    """
    ratio = asked.get("aspectRatio")
    if data is None:
        size = pictures.size_for(pictures.ratio_of(ratio or "16:9"), megapixels)
        drawn = pictures.generate(prompt, seed=seed, size=size)
    else:  # cropped to a ratio that was given, else the input's own (kie-7)
        drawn = pictures.edit([data], prompt, seed=seed, aspect_ratio=ratio, megapixels=megapixels)
    if "watermark" in asked:
        _mark(drawn, asked["watermark"])
    return pictures.encode(drawn, asked["outputFormat"])


def _mark(drawn: Image.Image, words: str) -> None:
    """Letters in the lower left corner; what a watermark looks like at kie is not established (kie-26)."""
    height = max(9, drawn.height // 20)
    letters = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in words[:80])
    place = (height, drawn.height - 2 * height)
    pen = ImageDraw.Draw(drawn)
    pen.text(place, letters, font=ImageFont.load_default(height), fill="white", stroke_width=1, stroke_fill="black")
