"""A provider's reply, fit to be shown: short, without base64, signatures and unprintable letters."""

import re
from collections.abc import Mapping
from typing import Any

EXCERPT = 2_000  # characters
_DEPTH = 32  # levels of a reply that are kept; no provider's reply is half as deep (F40)
_LOOKED_AT = 20_000  # bytes; what comes later would be cut anyway
# Slashes may be escaped, and lines broken, as JSON writes them.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+_-]|\\?/|\\[rn]){120,}={0,2}")
_LINK = re.compile(r"(https?://[^\s\"'<>?]+)(\?[^\s\"'<>]*)", re.IGNORECASE)
_SIGNATURE = re.compile(r"\b(?:sig|signature|token|se|expires)=", re.IGNORECASE)


def excerpt(body: bytes) -> str:
    """The beginning of a reply's body as one printable text of at most 2,000 characters."""
    text = body[:_LOOKED_AT].decode("utf-8", "backslashreplace")
    text = _LINK.sub(_unsigned, text)
    text = _BASE64.sub(lambda found: f"<{len(found[0])} characters of base64>", text)
    text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return text if len(text) <= EXCERPT and len(body) <= _LOOKED_AT else text[:EXCERPT] + " …"


def cleaned(words: str, most: int) -> str:
    """A provider's own words on one printable line of at most so many characters, without base64 and signatures."""
    return excerpt(words.encode("utf-8", "replace"))[:most]


def without_signatures(value: Any, depth: int = _DEPTH) -> Any:
    """JSON with the query cut off every link that is signed, and long base64 replaced by its length."""
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): without_signatures(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_signatures(item, depth - 1) for item in value]
    if not isinstance(value, str):
        return value
    if len(value) > 10_000:
        return f"<{len(value)} characters>"
    return _BASE64.sub(lambda found: f"<{len(found[0])} characters of base64>", _LINK.sub(_unsigned, value))


def _unsigned(link: re.Match[str]) -> str:
    return f"{link[1]}?…" if _SIGNATURE.search(link[2]) else link[0]
