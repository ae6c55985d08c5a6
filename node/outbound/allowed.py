"""What an operator allows to be dialled although it is not public: networks, and hosts by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from proto.errors import Invalid

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Allowed:
    """`hosts` are (name, port), port 0 for every port; names in lower case, `*.` before one stands for its subdomains.

    A host that is allowed by name may resolve to any address: whoever answers for that name is trusted with it.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Allowed:
        """From `10.1.0.0/16`, `::1`, `mcp.corp.example`, `*.corp.example`, `localhost:8080`. Raises `Invalid`."""
        networks: list[IPv4Network | IPv6Network] = []
        hosts: set[tuple[str, int]] = set()
        for entry in entries:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                hosts.add(_host(entry))
        return cls(tuple(networks), frozenset(hosts))

    def with_hosts(self, hosts: Iterable[tuple[str, int]]) -> Allowed:
        return Allowed(self.networks, self.hosts | frozenset(hosts))

    def address(self, address: str) -> bool:
        if not self.networks:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)

    def host(self, host: str, port: int) -> bool:
        """By name; a host that is an address counts by the networks too."""
        name = host.lower().rstrip(".")
        if (name, port) in self.hosts or (name, 0) in self.hosts or self.address(name):
            return True
        _, dot, parent = name.partition(".")
        while dot:
            if (f"*.{parent}", port) in self.hosts or (f"*.{parent}", 0) in self.hosts:
                return True
            _, dot, parent = parent.partition(".")
        return False


def _host(entry: str) -> tuple[str, int]:
    name, colon, port = entry.rpartition(":")
    if not colon:
        name, port = entry, "0"
    bare = name.removeprefix("*.").strip("[]")
    good = bool(bare) and not any(c in bare for c in "/*@%\\ ,") and port.isascii() and port.isdigit()
    if not good or int(port) > 65_535 or _looks_like_a_network(bare):
        raise Invalid(
            f"{entry!r} is neither a network nor a host; write it like 10.1.0.0/16, mcp.corp.example, "
            "*.corp.example or localhost:8080"
        )
    prefix = "*." if name.startswith("*.") else ""
    return prefix + bare.lower().rstrip("."), int(port)


def _looks_like_a_network(name: str) -> bool:
    # A mistyped network (10.1.0.0/33, 10.1.2.3/16) must not become a host that nobody has.
    return name.replace(".", "").isdigit() and name.count(".") != 3
