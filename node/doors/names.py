"""By which names this node may be called (Host), and from which pages (Origin): against DNS rebinding.

A page whose own name is made to resolve to this node is, to the browser, the same origin as this node: it sends no
Origin with a GET, and reads the answer. What it cannot change is the name that it dialled, which is in Host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from node.doors.addresses import parse

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}))(?::[0-9]{0,5})?")
LOCALHOST = "localhost"


def host_in(header: str) -> str:
    """The host of a Host header in lower case, without brackets, port and last dot; empty if it holds none."""
    match = _HOST.fullmatch(header)
    return match[1].strip("[]").rstrip(".").lower() if match else ""


def is_loopback(host: str) -> bool:
    """Only this machine can reach what bears this name."""
    if host == LOCALHOST:
        return True
    parsed = parse(host)
    return parsed is not None and parsed.is_loopback


@dataclass(frozen=True, slots=True)
class Names:
    """`hosts` are in lower case; `*.` before one stands for one label, as in certificates. `origins` likewise."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Collection[str], origins: Collection[str]) -> Names:
        return cls(frozenset(h.lower().rstrip(".") for h in hosts), frozenset(o.lower() for o in origins))

    def host(self, header: str, local: str) -> bool:
        """May a connection to the address `local` ask for this host?"""
        host = host_in(header)
        if not host:
            return False
        if host in self.hosts or f"*.{host.partition('.')[2]}" in self.hosts:
            return True
        if is_loopback(local):
            return is_loopback(host)
        here, there = parse(local), parse(host)
        return there is not None and here == there

    def origin(self, origin: str, local: str) -> bool:
        """Pages of listed origins, and of this machine where only this machine can reach the node."""
        if origin.lower() in self.origins:
            return True
        return is_loopback(local) and is_loopback(_host_of(origin))


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""
