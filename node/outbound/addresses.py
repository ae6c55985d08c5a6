"""Which IP addresses nobody may send this node to: everything that is not a public unicast address.

`ipaddress.is_global` cannot say it: it passes NAT64 and 6to4 with a private address inside, site-local addresses, and
multicast. IPv6 is judged the other way round, by what is allowed: 2000::/3 less its special parts (RFC 4291 §2.4,
IANA IPv6 Special-Purpose Address Registry), and the forms that stand for an IPv4 address, which is judged in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_METADATA: dict[str, str] = {
    "169.254.169.254": "clouds",
    "169.254.170.2": "Amazon ECS",
    "168.63.129.16": "Azure",
    "100.100.100.200": "Alibaba Cloud",
    "192.0.0.192": "Oracle Cloud",
    "fd00:ec2::254": "Amazon EC2",
    "fd20:ce::254": "Google Cloud",
}
"""Where clouds hand out credentials to whoever asks from inside. Azure's is a public address."""

_V4 = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "of this network (RFC 1122 §3.2.1.3)"),
        ("10.0.0.0/8", "private (RFC 1918)"),
        ("100.64.0.0/10", "shared by a carrier's NAT (RFC 6598)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local (RFC 3927)"),
        ("172.16.0.0/12", "private (RFC 1918)"),
        ("192.0.0.0/24", "kept for protocols (RFC 6890)"),
        ("192.0.2.0/24", "for documentation (RFC 5737)"),
        ("192.88.99.0/24", "of 6to4 relays (RFC 7526)"),
        ("192.168.0.0/16", "private (RFC 1918)"),
        ("198.18.0.0/15", "for benchmarks (RFC 2544)"),
        ("198.51.100.0/24", "for documentation (RFC 5737)"),
        ("203.0.113.0/24", "for documentation (RFC 5737)"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved (RFC 1112 §4)"),
    )
)

_V6 = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "NAT64 of a local network (RFC 8215)"),
        ("100::/64", "discarded (RFC 6666)"),
        ("2001::/32", "Teredo (RFC 4380)"),
        ("2001:2::/48", "for benchmarks (RFC 5180)"),
        ("2001::/23", "kept for protocols (RFC 2928)"),
        ("2001:db8::/32", "for documentation (RFC 3849)"),
        ("2002::/16", "6to4 (RFC 3056)"),
        ("3fff::/20", "for documentation (RFC 9637)"),
        ("5f00::/16", "a segment's identifier (RFC 9602)"),
        ("fc00::/7", "private (RFC 4193)"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local (RFC 3879)"),
        ("ff00::/8", "multicast"),
    )
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_TEREDO = IPv6Network("2001::/32")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an interface's identifier (RFC 5214 §6.1)."""
_METADATA_ADDRESSES = {ip_address(text): whose for text, whose in _METADATA.items()}


@lru_cache(maxsize=4_096)
def forbidden_reason(address: str | Address) -> str:
    """Why this address may not be dialled for somebody else; empty where it may. What is no address is forbidden."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "is no IP address"
    if (whose := _METADATA_ADDRESSES.get(parsed)) is not None:
        return f"is the metadata service of {whose}"
    return _v4_reason(parsed) if isinstance(parsed, IPv4Address) else _v6_reason(parsed)


def embedded(address: IPv6Address) -> Iterator[tuple[str, IPv4Address]]:
    """The IPv4 addresses that are written into one of IPv6, each with the name of the way it is."""
    bits = int(address)
    low = IPv4Address(bits & 0xFFFFFFFF)
    if address in _MAPPED:
        yield "IPv4-mapped", low
    elif address in _NAT64:
        yield "NAT64", low
    elif address in _TRANSLATED:
        yield "IPv4-translated", low
    elif address in _COMPATIBLE and bits > 1:
        yield "IPv4-compatible", low
    elif address in _SIX_TO_FOUR:
        yield "6to4", IPv4Address(bits >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield "Teredo", IPv4Address(bits >> 64 & 0xFFFFFFFF)
        yield "Teredo", IPv4Address(~bits & 0xFFFFFFFF)
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:
        yield "ISATAP", low


def _v4_reason(address: IPv4Address) -> str:
    return next((f"is {what}" for network, what in _V4 if address in network), "")


def _v6_reason(address: IPv6Address) -> str:
    if address.scope_id:
        return "names an interface of this machine"
    for how, inner in embedded(address):
        if reason := forbidden_reason(inner):
            return f"is {how} for {inner}, which {reason}"
    if address in _MAPPED or address in _NAT64:
        return ""
    for network, what in _V6:
        if address in network:
            return f"is {what}"
    return "" if address in _GLOBAL_UNICAST else "is not a global unicast address (RFC 4291)"
