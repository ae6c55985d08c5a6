"""Whose request a proxy carries: the nearest address that is no trusted proxy, read from the right.

Left of that anybody may have written anything. Without trusted proxies the headers are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web
from multidict import istr

from node.doors.addresses import Network, parse, within

_FORWARDED_FOR = istr("X-Forwarded-For")
_FORWARDED = istr("Forwarded")
HOPS_MAX = 32
"""Of one request; a longer list is of no proxy."""
_PAIR = re.compile(r'\s*for\s*=\s*(?:"([^"]*)"|([^\s;,"]+))\s*', re.IGNORECASE)
_PEER: web.RequestKey[str] = web.RequestKey("peer", str)


def client_address(
    peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The client's address; empty where a trusted proxy names none that can be read.

    `forwarded_for` and `forwarded` are the header's values in their order (RFC 7239 §4 for the latter). Where both
    are there they must agree: a proxy that sets one of them passes on what a client wrote into the other.
    """
    if not _trusts(peer, trusted):
        return peer
    lists = [
        [part.strip() for value in forwarded_for for part in value.split(",")],
        [_for(part) for value in forwarded for part in value.split(",")],
    ]
    found = {_nearest(hops, trusted) for hops in lists if hops}
    if len(found) > 1:
        return ""
    return found.pop() if found else peer


def peer_of(request: web.BaseRequest) -> str:
    """The client's address as the door found it."""
    known: str | None = request.get(_PEER)
    return (request.remote or "") if known is None else known


def remember_peer(request: web.BaseRequest, address: str) -> None:
    request[_PEER] = address


def read_client(request: web.BaseRequest, peer: str, trusted: Sequence[Network]) -> str:
    headers = request.headers
    return client_address(peer, headers.getall(_FORWARDED_FOR, ()), headers.getall(_FORWARDED, ()), trusted)


def _nearest(hops: Sequence[str], trusted: Sequence[Network]) -> str:
    for hop in reversed(hops[-HOPS_MAX:]):
        address = _bare(hop)
        if parse(address) is None:
            return ""
        if not _trusts(address, trusted):
            return address
    # Proxies all the way: the first of them is who asked.
    return _bare(hops[0]) if len(hops) <= HOPS_MAX else ""


def _trusts(address: str, trusted: Sequence[Network]) -> bool:
    parsed = parse(address)
    return parsed is not None and within(parsed, trusted)


def _for(element: str) -> str:
    for pair in element.split(";"):
        if match := _PAIR.fullmatch(pair):
            return match[1] or match[2] or ""
    return ""


def _bare(node: str) -> str:
    """Without a port: `192.0.2.1:80`, `[2001:db8::1]:80` (RFC 7239 §6)."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node
