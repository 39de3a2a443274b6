"""Where a call goes, and whether the key goes with it: by purpose and by origin (design section 6, promise 6)."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from anykontext.adapting import Call
from anykontext.engine.provider import Provider

# Names and addresses that every HTTP library reads alike; others are a way to be sent to another host than was checked.
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:]*:[0-9a-f:.]*")


@dataclass(frozen=True, slots=True)
class Address:
    """The way of a call.

    Attributes:
        url: The full URL, byte for byte as the provider gave it where it did.
        signed: Whether the key goes with it.
        guarded: Whether it goes to a host that we do not trust, and so only under the guard of downloads.
    """

    url: str
    signed: bool
    guarded: bool


class UntrustedUrl(ValueError):
    """A URL of a reply or a handle that nothing may be sent to: not http(s), with a user in it, or without a host."""


def address(call: Call, provider: Provider) -> Address:
    """Where a call goes, and how.

    Raises:
        UntrustedUrl: The URL is none that anything may be sent to.
    """
    if call.origin is not None:
        if not call.path.startswith("/"):
            raise UntrustedUrl("a path below an origin begins with a slash")
        if call.origin not in provider.origins:
            raise UntrustedUrl(f"{provider.name} has no {call.origin!r} host: base_url is not the provider's own")
        url = provider.origins[call.origin] + call.path
        return Address(url, signed=_may_carry_key(_split(url), provider), guarded=False)
    target = _checked(call.path)
    own = any(_origin(target) == _origin(_split(base)) for base in provider.origins.values())
    trusted = own or _is_trusted_domain(target, provider)
    return Address(call.path, signed=trusted and _may_carry_key(target, provider), guarded=not trusted)


def _split(url: str) -> SplitResult:
    try:
        found = urlsplit(url)
        usable = found.scheme in {"http", "https"} and found.hostname and found.port != 0
    except ValueError:
        raise UntrustedUrl("a URL that cannot be read") from None
    if not usable or found.username is not None or found.password is not None or not url.isprintable() or " " in url:
        raise UntrustedUrl(f"not a plain http or https URL: {url[:80]!r}")
    return found


def _checked(url: str) -> SplitResult:
    """A URL of a reply or a handle, whose host must be plain as well."""
    found = _split(url)
    host = found.hostname or ""
    if not _HOST.fullmatch(host) or ("[" in found.netloc) != (":" in host):
        raise UntrustedUrl(f"not a plain host name: {url[:80]!r}")
    return found


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    return (url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80))


def _is_trusted_domain(url: SplitResult, provider: Provider) -> bool:
    host = url.hostname or ""
    domains = provider.adapter.facts.trusted
    at_home = any(host == domain or host.endswith("." + domain) for domain in domains)
    return at_home and url.scheme == "https" and url.port in {None, 443}


def _may_carry_key(url: SplitResult, provider: Provider) -> bool:
    return url.scheme == "https" or provider.allow_http or is_loopback(url.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_delivery(url: str, provider: Provider) -> bool:
    """Whether a link leads to the provider's own hosts, by name: for clients that resolve names out of our sight."""
    try:
        target = _checked(url)
    except UntrustedUrl:
        return False
    host = target.hostname or ""
    if host in hosts_of(provider):
        return True
    facts = provider.adapter.facts
    patterns = (*facts.delivery, *facts.trusted, *(f"*.{domain}" for domain in facts.trusted))
    return target.scheme == "https" and any(fnmatchcase(host, pattern) for pattern in patterns)


def hosts_of(provider: Provider) -> frozenset[str]:
    """The hosts of a provider's configured base URLs: the guard lets links lead there, even to an emulator."""
    return frozenset(host for base in provider.origins.values() if (host := _split(base).hostname))
