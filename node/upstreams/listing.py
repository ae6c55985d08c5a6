"""What a server lists, page by page: raw objects, each with a name, each name once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from node.upstreams.channel import Channel
from node.upstreams.handshake import say_error
from node.upstreams.questions import METHOD_NOT_FOUND
from node.upstreams.wire import logger
from proto.errors import Unavailable

PAGES_MAX = 100
ITEMS_MAX = 10_000
TTL_MAX_MS = 7 * 24 * 3600 * 1000.0
"""Lists are listed again after a week at the latest, whatever the server says."""

Items = tuple[dict[str, Any], ...]


class _List(NamedTuple):
    capability: str
    method: str
    key: str
    name: str


LISTS: dict[str, _List] = {
    "tools": _List("tools", "tools/list", "tools", "name"),
    "prompts": _List("prompts", "prompts/list", "prompts", "name"),
    "resources": _List("resources", "resources/list", "resources", "uri"),
    "templates": _List("resources", "resources/templates/list", "resourceTemplates", "uriTemplate"),
}
"""By the name of the field of `Offer`."""

CAPABILITIES = frozenset(x.capability for x in LISTS.values())


async def list_all(
    channel: Channel, capabilities: dict[str, Any], wanted: Iterable[str], ttls_ms: dict[str, float] | None = None
) -> dict[str, Items]:
    """The lists that belong to the `wanted` capabilities; empty where the server does not declare one.

    `ttls_ms` is given how long the lists of each capability hold, where the server says so: the shortest time counts.
    Raises `Unavailable`, or what the channel raises.
    """
    chosen = frozenset(wanted)
    found: dict[str, Items] = {}
    for field, one in LISTS.items():
        if one.capability in chosen:
            found[field] = await _list(channel, one, ttls_ms) if one.capability in capabilities else ()
    return found


async def _list(channel: Channel, one: _List, ttls_ms: dict[str, float] | None) -> Items:
    items: dict[str, dict[str, Any]] = {}
    cursors: set[str] = set()
    params: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        answer = await channel.request(one.method, params)
        if "error" in answer:
            error = answer["error"]
            if isinstance(error, dict) and error.get("code") == METHOD_NOT_FOUND:
                return ()
            raise Unavailable(f"server {channel.name!r} answered {one.method} with an error: {say_error(error)}")
        result = answer["result"] if isinstance(answer["result"], dict) else {}
        _gather(channel.name, one, result.get(one.key), items)
        ttl_ms = result.get("ttlMs")
        if ttls_ms is not None and isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool) and ttl_ms >= 0:
            ttls_ms[one.capability] = min(ttl_ms, ttls_ms.get(one.capability, TTL_MAX_MS))
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str) or len(items) >= ITEMS_MAX:
            break
        if cursor in cursors:
            logger.warning("server %s: %s gave the same cursor twice; the list ends there", channel.name, one.method)
            return tuple(items.values())
        cursors.add(cursor)
        params = {"cursor": cursor}
    else:
        cursor = "…"
    if isinstance(cursor, str):
        logger.warning(
            "server %s: %s goes on beyond %d pages or %d items; the rest is left out",
            channel.name,
            one.method,
            PAGES_MAX,
            ITEMS_MAX,
        )
    return tuple(items.values())


def _gather(server: str, one: _List, page: Any, items: dict[str, dict[str, Any]]) -> None:
    if not isinstance(page, list):
        logger.warning("server %s: %s answered without a list %r", server, one.method, one.key)
        return
    for item in page:
        name = item.get(one.name) if isinstance(item, dict) else None
        if not isinstance(name, str) or not name:
            logger.warning("server %s: dropped an entry of %s that has no string %r", server, one.method, one.name)
        elif name in items:
            logger.warning("server %s: %s names %r twice; the first counts", server, one.method, name)
        elif len(items) < ITEMS_MAX:
            items[name] = item
