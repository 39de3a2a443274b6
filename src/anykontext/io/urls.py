"""URLs from strangers, sent byte for byte: httpx would quote some anew, and a signature covers the spelling."""

import re

import httpx

from anykontext.io.addresses import Forbidden

_TARGET = re.compile(r"[^:/?#]+://[^/?#]*([^?#]*)((?:\?[^#]*)?)")


def bare(url: str) -> str:
    """A URL without its query, and so without its signature."""
    return re.split(r"[?#]", url, maxsplit=1)[0]


def split(text: str) -> tuple[httpx.URL, bytes | None]:
    """The URL as httpx understands it, and its path and query byte for byte; None when it must be quoted first.

    Raises:
        Forbidden: It is no plain http or https URL.
    """
    url = httpx.URL(text)
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo:
        raise Forbidden("it is not a plain http or https URL")
    found = _TARGET.match(text)
    target = (found[1] or "/") + found[2] if found else ""
    plain = target.startswith("/") and target.isascii() and target.isprintable() and " " not in target
    return url, target.encode("ascii") if plain else None
