"""What an operator means by the name of a tool, typed in any of the forms that people and agents see. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from heapq import nlargest
from itertools import chain, islice

from node.catalog import Catalog, Server
from proto.errors import Invalid
from proto.names import listed_tool, split_qualified

NEAR_MAX = 5
COMPARED_MAX = 500
SCANNED_MAX = 20_000
"""Of so many names those are compared with what was typed that share most heads of its words: a scan takes some 1 µs,
difflib 30 µs a name, and calls wait meanwhile."""

_HEAD = 3

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Meant:
    """`server` is a service, a bare name or NAME--NODE; `tool` is empty where the server as a whole is meant.

    A server that could not be told is empty; `choices` are then those that have such a tool.
    """

    server: str
    tool: str
    choices: tuple[str, ...] = ()


def understand(typed: str, catalog: Catalog) -> Meant:
    """SERVER/TOOL, SERVER__TOOL (as aggregated lists have it), NAME--NODE/TOOL, a server alone, or a tool alone."""
    server, slash, tool = typed.partition("/")
    if slash and _is_server_name(server):
        return Meant(server, tool)
    if holders(catalog, typed):
        return Meant(typed, "")
    choices = sorted({s.service or s.name for s in _servers(catalog) if typed in s.tools})
    if choices:
        return Meant(choices[0] if len(choices) == 1 else "", typed, tuple(choices))
    server, underscores, tool = typed.partition("__")
    if underscores and _is_server_name(server):
        # A listed name may have been cut, or rewritten where agents' APIs refuse a sign: its hash tells.
        whole = (t for s in holders(catalog, server) for t in s.tools if listed_tool(server, t) == typed)
        return Meant(server, next(whole, tool))
    return Meant(typed if _is_server_name(typed) else "", "" if _is_server_name(typed) else typed)


def holders(catalog: Catalog, name: str) -> list[Server]:
    """Every server of that name that is held here, by node; also of owners that have left the lists."""
    try:
        bare, node = split_qualified(name)
    except Invalid:
        return []
    if node is not None:
        return [s for s in _servers(catalog) if s.name == bare and s.owner.id.name == node]
    return [s for s in _servers(catalog) if s.service == bare] or [s for s in _servers(catalog) if s.name == bare]


def near(typed: str, meant: Meant, catalog: Catalog) -> list[str]:
    """Names like the one that was typed, best first, at most `NEAR_MAX`."""
    found = holders(catalog, meant.server)
    if found and meant.tool:
        names = {f"{meant.server}/{tool}": tool for s in found for tool in s.tools}
        return [f"{meant.server}/{tool}" for tool in _like(meant.tool, names.values())]
    servers = {s.service or s.name for s in _servers(catalog)}
    if meant.server and (like := _like(split_name(meant.server), servers)):
        having = {server for server in like if any(meant.tool in s.tools for s in holders(catalog, server))}
        return [f"{server}/{meant.tool}" if server in having else server for server in like]
    return _like(meant.tool or typed, chain(servers, (tool for s in _servers(catalog) for tool in s.tools)))


def split_name(name: str) -> str:
    """The bare name."""
    return name.partition("--")[0]


def _like(name: str, names: Iterable[str]) -> list[str]:
    unique = dict.fromkeys(islice(names, SCANNED_MAX))
    if len(unique) > COMPARED_MAX:
        heads = {word[:_HEAD] for word in _WORD.findall(name.lower())}
        unique = dict.fromkeys(nlargest(COMPARED_MAX, unique, key=lambda n: sum(head in n for head in heads)))
    return get_close_matches(name, unique, NEAR_MAX, 0.5)


def _is_server_name(text: str) -> bool:
    try:
        split_qualified(text)
    except Invalid:
        return False
    return True


def _servers(catalog: Catalog) -> Iterator[Server]:
    for _, owner in sorted(catalog.owners.items()):
        yield from owner.servers.values()
