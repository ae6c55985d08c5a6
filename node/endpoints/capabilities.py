"""What is promised of servers' capabilities: what is carried to a client of that era, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FAMILIES = ("tools", "prompts", "resources")
"""Those with a list, whose changes are always told."""

MODERN = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"
"""The extension of 2026-07-28. The tasks of 2025-11-25 are another protocol under a capability of their own."""

METHODLESS = frozenset({TASKS, "io.modelcontextprotocol/ui"})
"""Extensions that `/mcp-all` can keep: it knows which server a message of theirs concerns."""


def is_modern(era: str) -> bool:
    """Of a revision by its date; what has not said which it is counts as old."""
    return era >= MODERN


def promised(info: dict[str, Any], client_era: str) -> dict[str, Any]:
    """Of one server by what its record says: a server of both eras is spoken to in its client's."""
    if is_modern(client_era) and info.get("modernCapabilities"):
        return relayed(info["modernCapabilities"], MODERN, client_era)
    return relayed(info.get("capabilities") or {}, info.get("protocolVersion") or "", client_era)


def relayed(capabilities: dict[str, Any], server_era: str, client_era: str) -> dict[str, Any]:
    """One server's, as a client of `client_era` may count on them; unknown members and families as they are.

    Tasks are not carried from one era into the other: their messages differ, and so do the clients' duties.
    """
    carried = dict(capabilities)
    for family in FAMILIES:
        if family in capabilities:
            said = capabilities[family]
            carried[family] = {**(said if isinstance(said, dict) else {}), "listChanged": True}
    if "tasks" in carried and (is_modern(server_era) or is_modern(client_era)):
        del carried["tasks"]
    extensions = carried.get("extensions")
    if isinstance(extensions, dict) and not (is_modern(server_era) and is_modern(client_era)):
        carried["extensions"] = {key: value for key, value in extensions.items() if key != TASKS}
    return carried


def united(all_relayed: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of everything that a caller may see: what at least one server has, and the address of all can keep.

    Lists are always promised, since a server that has something to list may join at any time. What would need a method
    of its own is not: it would not say which server it is for. Nor is `tasks/list`, which would ask all of them.
    """
    union: dict[str, Any] = {family: {"listChanged": True} for family in FAMILIES}
    for capabilities in all_relayed:
        for family in ("logging", "completions"):
            if isinstance(capabilities.get(family), dict):
                union.setdefault(family, {})
        if _member(capabilities, "resources").get("subscribe") is True:
            union["resources"]["subscribe"] = True
        if tasks := _member(capabilities, "tasks"):
            known = union.setdefault("tasks", {})
            _merge(known, {key: value for key, value in tasks.items() if key != "list"})
        kept = {k: v for k, v in _member(capabilities, "extensions").items() if k in METHODLESS and isinstance(v, dict)}
        if kept:
            _merge(union.setdefault("extensions", {}), kept)
    return union


def _member(capabilities: dict[str, Any], name: str) -> dict[str, Any]:
    value = capabilities.get(name)
    return value if isinstance(value, dict) else {}


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Objects member by member; of other values the first counts."""
    for key, value in more.items():
        known = into.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value)
        elif key not in into:
            # A copy: what the servers said stays theirs.
            into[key] = {}
            if isinstance(value, dict):
                _merge(into[key], value)
            else:
                into[key] = value
