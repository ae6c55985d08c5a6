"""Each special range, and each way to write an IPv4 address into one of IPv6."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.outbound.addresses import forbidden_reason
from node.outbound.allowed import Allowed
from proto.errors import Invalid

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001:800::200e", "::ffff:8.8.8.8",
          "64:ff9b::8.8.8.8", "11.0.0.0", "172.15.255.255", "172.32.0.0", "100.128.0.0", "169.253.1.1", "198.20.0.1",
          "2001:200::1", "2003::1", "3ffe::1"]  # fmt: skip

FORBIDDEN = {
    "0.0.0.0": "this network", "0.1.2.3": "this network", "10.0.0.1": "RFC 1918", "100.64.0.1": "carrier",
    "100.127.255.255": "carrier", "100.100.100.200": "metadata service of Alibaba Cloud", "127.0.0.1": "loopback",
    "127.255.255.254": "loopback", "169.254.1.1": "link-local", "169.254.169.254": "metadata service",
    "169.254.170.2": "metadata service of Amazon ECS", "168.63.129.16": "metadata service of Azure",
    "172.16.0.1": "RFC 1918", "172.31.255.255": "RFC 1918", "192.0.0.8": "protocols", "192.0.0.192": "Oracle",
    "192.0.2.1": "documentation", "192.88.99.1": "6to4 relays", "192.168.1.1": "RFC 1918", "198.18.0.1": "benchmarks",
    "198.19.255.255": "benchmarks", "198.51.100.1": "documentation", "203.0.113.1": "documentation",
    "224.0.0.1": "multicast", "239.255.255.250": "multicast", "240.0.0.1": "reserved", "255.255.255.255": "broadcast",
    "::": "unspecified", "::1": "loopback", "fc00::1": "RFC 4193", "fd12:3456::1": "RFC 4193",
    "fd00:ec2::254": "Amazon EC2", "fd20:ce::254": "Google Cloud", "fe80::1": "link-local",
    "fe80::1%eth0": "interface of this machine", "2606:4700::1%eth0": "interface of this machine",
    "fec0::1": "site-local", "feff::1": "site-local", "ff02::1": "multicast", "2001:db8::1": "documentation",
    "3fff::1": "documentation", "2001:2::1": "benchmarks", "2001:10::1": "protocols", "2001:20::1": "protocols",
    "100::1": "discarded", "5f00::1": "segment", "4000::1": "not a global unicast", "200::1": "not a global unicast",
    "::2": "IPv4-compatible", "64:ff9b:1::1": "NAT64 of a local network", "2002:808:808::1": "6to4",
    "2001:0:808:808::f7f7:f7f7": "Teredo", "": "no IP address", "localhost": "no IP address", "0x7f.1": "no IP address",
    "2130706433": "no IP address", "127.1": "no IP address", "0177.0.0.1": "no IP address",
    "010.0.0.1": "no IP address",
}  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_dialled(address: str) -> None:
    assert forbidden_reason(address) == ""


@pytest.mark.parametrize(("address", "why"), FORBIDDEN.items())
def test_special_addresses_may_not_and_the_reason_says_why(address: str, why: str) -> None:
    assert why in forbidden_reason(address)


WAYS = {
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "NAT64": lambda v4: 0x64FF9B << 96 | v4,
    "NAT64 of a local network": lambda v4: 0x64FF9B0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo's server": lambda v4: 0x20010000 << 96 | v4 << 64 | 0xF7F7F7F7,
    "Teredo's client": lambda v4: 0x20010000 << 96 | 0x08080808 << 64 | ~v4 & 0xFFFFFFFF,
    "ISATAP": lambda v4: 0x2606470000000000 << 64 | 0x00005EFE << 32 | v4,
    "ISATAP, global": lambda v4: 0x2606470000000000 << 64 | 0x02005EFE << 32 | v4,
}
INNER = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inner", INNER)
def test_no_way_of_writing_a_forbidden_address_into_ipv6_passes(way: str, inner: str) -> None:
    assert forbidden_reason(IPv6Address(WAYS[way](int(IPv4Address(inner)))))


@given(st.sampled_from(sorted(WAYS)), st.integers(0, 2**32 - 1))
def test_an_address_is_never_more_public_than_the_one_inside(way: str, v4: int) -> None:
    if forbidden_reason(IPv4Address(v4)):
        assert forbidden_reason(IPv6Address(WAYS[way](v4)))


@given(st.integers(0, 2**128 - 1))
def test_what_pythons_own_table_calls_private_is_never_public(bits: int) -> None:
    address = IPv6Address(bits)
    if address.is_private or address.is_multicast or address.is_reserved or address.is_site_local:
        inner = address.ipv4_mapped
        assert forbidden_reason(address) or (inner is not None and inner.is_global)


@given(st.integers(0, 2**32 - 1))
def test_ipv4_is_judged_at_least_as_strictly_as_by_python(bits: int) -> None:
    address = IPv4Address(bits)
    if not address.is_global:
        assert forbidden_reason(address)


def test_an_operator_allows_networks_and_hosts() -> None:
    allowed = Allowed.of(["10.1.0.0/16", "::1", "mcp.corp.example", "*.Lab.example", "localhost:8080"])
    assert allowed.networks == (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert allowed.address("10.1.2.3")
    assert not allowed.address("10.2.2.3")
    for host, port, passes in (
        ("mcp.corp.example", 443, True),
        ("MCP.corp.example.", 1, True),
        ("x.mcp.corp.example", 443, False),
        ("a.lab.example", 443, True),
        ("a.b.lab.example", 443, True),
        ("lab.example", 443, False),
        ("evillab.example", 443, False),
        ("localhost", 8080, True),
        ("localhost", 8081, False),
        ("10.1.2.3", 80, True),
        ("::1", 80, True),
    ):
        assert allowed.host(host, port) is passes, host


@pytest.mark.parametrize("entry", ["", "*", "10.0.0.0/33", "10.1.2.3/8", "10.0/8", "http://x.example", "a/b", "x:y",
                                   "*.*", "a b", "x:99999"])  # fmt: skip
def test_what_is_neither_a_network_nor_a_host_allows_nothing(entry: str) -> None:
    with pytest.raises(Invalid, match="neither a network nor a host"):
        Allowed.of([entry])
