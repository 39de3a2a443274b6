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
    try:
        url = httpx.URL(text)
        plain_url = url.scheme in {"http", "https"} and bool(url.host) and not url.userinfo
    except (httpx.InvalidURL, ValueError) as error:  # the latter: a host that IDNA cannot read, such as "xn--"
        raise Forbidden(f"a URL that cannot be read: {error}") from None
    if not plain_url:
        raise Forbidden("it is not a plain http or https URL")
    found = _TARGET.match(text)
    target = (found[1] or "/") + found[2] if found else ""
    plain = target.startswith("/") and target.isascii() and target.isprintable() and " " not in target
    return url, target.encode("ascii") if plain else None
