"""Which addresses a stranger's URL may lead to: the rules of the guard (pure)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from anykontext.engine.signing import is_loopback

# Not public, whatever the standard library of this Python says about them (it learnt some of these late).
_NEVER = tuple(
    ip_network(one)
    for one in (
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata service lives here
        "168.63.129.16/32",  # the host's own service in another cloud
        "192.88.99.0/24",  # the old 6to4 relays
    )
)
_PUBLIC_IPV6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_COMPATIBLE = ip_network("::/96")


class Forbidden(OSError):
    """The guard refused a host, an address or a scheme; nothing was sent."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one that anybody may be sent to; addresses in an IPv6 wrapper are judged by both."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in net for net in _NEVER)
    inner = address.ipv4_mapped
    if inner is None and (address in _NAT64 or address in _COMPATIBLE):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    if address.sixtofour is not None and not is_public(address.sixtofour):
        return False
    return address in _PUBLIC_IPV6 and address.is_global and not address.is_multicast


@dataclass(frozen=True, slots=True)
class Guard:
    """Which hosts and addresses may be gone to.

    Attributes:
        allowed_hosts: The hosts of the provider's own configured base URLs. They may be private, and be spoken to
            over http; where one of them is loopback (an emulator), so may every other loopback name.
    """

    allowed_hosts: frozenset[str] = frozenset()

    def check_url(self, scheme: str, host: str) -> None:
        """Let https through, and http to an allowed host.

        Raises:
            Forbidden: Anything else.
        """
        if not host or scheme not in {"http", "https"}:
            raise Forbidden("the URL is not an https URL with a host")
        if scheme == "http" and not (self._is_own(host) or self._is_own_loopback(host)):
            raise Forbidden(f"http to {host!r} is not allowed: only https is, except to the provider's own base URL")

    def check(self, host: str, addresses: list[str]) -> list[str]:
        """The addresses that a host resolved to, when all of them may be gone to.

        Raises:
            Forbidden: One of them may not: a name with a public and a private address is an attack or a mistake.
        """
        if not self._is_own(host):
            for text in addresses:
                address = ip_address(text)
                if not is_public(address) and not (address.is_loopback and self._is_own_loopback(host)):
                    raise Forbidden(f"{host!r} leads to {text}, which is not a public address")
        return addresses

    def _is_own(self, host: str) -> bool:
        return _plain(host) in map(_plain, self.allowed_hosts)

    def _is_own_loopback(self, host: str) -> bool:
        return is_loopback(_plain(host)) and any(is_loopback(_plain(own)) for own in self.allowed_hosts)


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")
