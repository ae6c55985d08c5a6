"""Who may come by address: networks allowed and denied, for a listener, a key or a tenant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
PREFIX_V6 = 64
"""What one IPv6 site has to itself at least (RFC 6177): whoever has one address of it has them all."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Denied wins; an empty `allow` allows all that is not denied."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    @classmethod
    def of(cls, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> Addresses:
        """From networks in CIDR notation, or single addresses. Raises ValueError."""
        return cls(networks(allow), networks(deny))

    def admits(self, address: str) -> bool:
        """What is no IP address (a socket in the file system) is admitted only where nothing is asked."""
        if not (self.allow or self.deny):
            return True
        parsed = parse(address)
        if parsed is None or within(parsed, self.deny):
            return False
        return not self.allow or within(parsed, self.allow)

    def __bool__(self) -> bool:
        return bool(self.allow or self.deny)


EVERYWHERE = Addresses()


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


@lru_cache(maxsize=4_096)
def parse(address: str) -> IPv4Address | IPv6Address | None:
    """A mapped IPv4 address (::ffff:a.b.c.d) is the IPv4 address, which a listener of both families shows so."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def within(address: IPv4Address | IPv6Address, among: Iterable[Network]) -> bool:
    return any(address in network for network in among)


@lru_cache(maxsize=4_096)
def counted_as(address: str) -> str:
    """Under which name an address is counted: itself, or the network of its site."""
    parsed = parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> PREFIX_V6 << PREFIX_V6, PREFIX_V6)))
    return str(parsed) if parsed is not None else address
