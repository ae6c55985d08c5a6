"""Settings of the listener that say who may come, under which names, and how many at once: parts of `http`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from node.doors.addresses import Addresses
from node.settings.values import Section

if TYPE_CHECKING:
    from node.config import NodeConfig

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as e:
        raise ValueError(f"{e}; write a network like 10.1.0.0/16, or an address") from None


def _host(value: str) -> str:
    bare = value.strip("[]")
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    if not _HOST.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a host name; write it without scheme and port, like mcp.example.org or *.example.org"
        )
    return value.lower()


NetworkText = Annotated[str, AfterValidator(_network)]
HostName = Annotated[str, AfterValidator(_host)]
NetworkTexts = Annotated[tuple[NetworkText, ...], Field(max_length=10_000)]


class AddressesSection(Section):
    """Networks (CIDR) that may come, and that may not: `deny` wins, an empty `allow` allows the rest."""

    allow: NetworkTexts = ()
    deny: NetworkTexts = ()

    def compiled(self) -> Addresses:
        return Addresses.of(self.allow, self.deny)


def door_rules(config: NodeConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Broken ones, as in rules.py."""
    http = config.http
    for i, network in enumerate(http.trusted_proxies):
        if ip_network(network).prefixlen == 0:
            yield (
                ("http", "trusted_proxies", i),
                f"{network!r} is everybody, who could then write any client's address into X-Forwarded-For; name the "
                "proxies' own addresses",
            )
    if http.connections_per_address_max > http.connections_max:
        yield (
            ("http", "connections_per_address_max"),
            f"is more than http.connections_max ({http.connections_max}), and would have no effect; lower it",
        )
