from __future__ import annotations

import pytest

from node.doors.addresses import Addresses, counted_as, networks
from node.doors.forwarded import HOPS_MAX, client_address

PROXIES = networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("allow", "deny", "address", "admitted"),
    [
        ([], [], "203.0.113.7", True),
        ([], ["203.0.113.0/24"], "203.0.113.7", False),
        ([], ["203.0.113.0/24"], "198.51.100.1", True),
        (["10.0.0.0/8"], [], "10.1.2.3", True),
        (["10.0.0.0/8"], [], "11.1.2.3", False),
        (["10.0.0.0/8"], ["10.1.0.0/16"], "10.1.2.3", False),
        # A listener of both families shows an IPv4 client so.
        (["10.0.0.0/8"], [], "::ffff:10.1.2.3", True),
        ([], ["10.0.0.0/8"], "::ffff:10.1.2.3", False),
        (["fe80::/10"], [], "fe80::1%eth0", True),
        (["10.0.0.0/8"], [], "", False),
        ([], ["10.0.0.0/8"], "no address", False),
    ],
)
def test_denied_wins_and_what_is_not_allowed_is_out(
    allow: list[str], deny: list[str], address: str, admitted: bool
) -> None:
    assert Addresses.of(allow, deny).admits(address) is admitted


def test_addresses_of_one_ipv6_site_are_counted_as_one() -> None:
    assert counted_as("2001:db8:1:2::1") == counted_as("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert counted_as("2001:db8:1:3::1") != counted_as("2001:db8:1:2::1")
    assert counted_as("::ffff:192.0.2.1") == counted_as("192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "client"),
    [
        # Whoever is no proxy speaks for himself, whatever he writes.
        ("203.0.113.9", ["127.0.0.1"], ["for=127.0.0.1"], "203.0.113.9"),
        ("10.0.0.1", [], [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], [], "198.51.100.1"),
        # What a client wrote stands left of what the proxy saw.
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1"], [], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1", "198.51.100.1, 10.2.2.2"], [], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], [], "198.51.100.1"),
        ("10.0.0.1", ["10.3.3.3, 10.2.2.2"], [], "10.3.3.3"),
        ("10.0.0.1", [], ['for="[2001:db8::1]:4711";proto=https'], "2001:db8::1"),
        ("10.0.0.1", [], ["for=127.0.0.1, for=198.51.100.1;by=10.0.0.1"], "198.51.100.1"),
        # What cannot be read is nobody, who is admitted nowhere that asks.
        ("10.0.0.1", ["unknown"], [], ""),
        ("10.0.0.1", [""], [], ""),
        ("10.0.0.1", [], ["for=_hidden"], ""),
        ("10.0.0.1", ["198.51.100.1"], ["for=198.51.100.2"], ""),
        ("10.0.0.1", ["198.51.100.1"], ["for=198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [", ".join(["10.9.9.9"] * (HOPS_MAX + 1))], [], ""),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    peer: str, forwarded_for: list[str], forwarded: list[str], client: str
) -> None:
    assert client_address(peer, forwarded_for, forwarded, PROXIES) == client


def test_without_trusted_proxies_forwarding_headers_are_worth_nothing() -> None:
    assert client_address("10.0.0.1", ["198.51.100.1"], ["for=198.51.100.1"], ()) == "10.0.0.1"
