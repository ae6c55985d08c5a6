"""`/mcp-all`: everything that the caller may see, at one address.

Tools and prompts are named SERVER__NAME, by the name under which the caller reaches the server; resources keep their
URIs, tasks get ids that say where they run. All else passes as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from importlib.metadata import version
from itertools import islice
from typing import Any

from node.asking import action_of
from node.catalog import Catalog
from node.choosing import NAMED
from node.endpoints.capabilities import is_modern, promised, united
from node.endpoints.directory import NAMED_KINDS, Directory, Place
from node.endpoints.labels import Labelled, labelled
from node.endpoints.paging import cursor, position
from node.endpoints.relay import Relay
from node.endpoints.server import LISTS
from node.endpoints.uris import owner_of, owner_of_reference
from node.ports import EVERYTHING, Action, Caller, Guard, Visibility
from node.task_ids import by_server
from proto.calls import Answer, Exchange
from proto.errors import Invalid, MeshError, Unknown
from proto.jsons import type_name
from proto.records import Kind

PAGE_ITEMS = 1_000
CAPABILITIES_KEPT = 256
"""By class of visibility and era; beyond it the longest kept are worked out again."""

INSTRUCTIONS = (
    "This address shows every server that you may use, at once. Tools and prompts are named SERVER__NAME; each server "
    "is also to be had alone, under the address of its name, and /mcp finds tools by what they do."
)


class EverythingEndpoint:
    """One for all callers. `page_items` bounds a page of each list."""

    def __init__(self, catalog: Catalog, guard: Guard, directory: Directory, relay: Relay, page_items: int) -> None:
        self._catalog = catalog
        self._guard = guard
        self._directory = directory
        self._relay = relay
        self._page_items = page_items
        self._capabilities: OrderedDict[Hashable, tuple[int, dict[str, Any]]] = OrderedDict()

    def describe(self, caller: Caller) -> dict[str, Any]:
        return {
            "serverInfo": {
                "name": "toolmesh",
                "title": f"toolmesh {self._catalog.me.name}, everything",
                "version": version("toolmesh"),
            },
            "capabilities": self._united(self._visible(caller, Action.LIST), caller.era),
            "instructions": INSTRUCTIONS,
        }

    def header_schema(self, tool: str, caller: Caller) -> dict[str, Any] | None:
        """The tool's inputSchema if it mirrors parameters into headers and this caller may see it, else None."""
        try:
            found = self._named(Kind.TOOL, tool, self._visible(caller, Action.CALL))
        except MeshError:
            # The call itself, which follows, is refused for the same reason.
            return None
        schema = found.member.definition.get("inputSchema") if found.member.header_params else None
        return schema if isinstance(schema, dict) else None

    async def handle(self, method: str, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        if method in LISTS:
            return {"result": self._list(method, params, self._visible(caller, Action.LIST))}
        if method.startswith("tasks/") and method != "tasks/list":
            return await self._relay.task(method, params, caller, exchange)
        visibility = self._visible(caller, action_of(method))
        if method in NAMED:
            field, kind = NAMED[method]
            found = self._named(kind, _text(params, field), visibility)
            server, inner = found.server, {**params, field: found.name}
        elif method == "resources/read":
            server, inner = self._owner(_text(params, "uri"), visibility), params
        elif method == "completion/complete":
            server, inner = self._reference(params, visibility)
        else:
            raise Unknown(f"{method!r} does not say which server it is for", method=method)
        return await self._relay.call(server, method, inner, caller, exchange)

    async def listen(self, params: dict[str, Any], caller: Caller, exchange: Exchange) -> Answer:
        """What no server can be told for is not honoured. Logs out of a call are heard at each server's own address:
        here they would need a listen at every server there is."""
        visibility = self._visible(caller, Action.READ)
        wanted = params.get("notifications") or {}
        asked = by_server(wanted.get("taskIds"))
        for uri in wanted.get("resourceSubscriptions") or ():
            if (server := owner_of(uri, self._directory, visibility)) is not None:
                asked.setdefault(server, {}).setdefault("resourceSubscriptions", []).append(uri)
        return await self._relay.listen(asked, caller, exchange)

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        await self._relay.notify(method, params, caller)

    # ---- lists ----------------------------------------------------------------------------------

    def _list(self, method: str, params: dict[str, Any], visibility: Visibility) -> dict[str, Any]:
        field, kind = LISTS[method]
        rows = self._directory.rows(kind, visibility)
        named = kind in NAMED_KINDS
        after = position(params, method, EVERYTHING, 2 if named else 1)
        places = rows.after(*after or ("", "")) if named else rows.merged_after(*after or (None,))
        # One more than the page holds tells whether there is a next.
        found = list(islice(places, self._page_items + 1))
        page = found[: self._page_items]
        result: dict[str, Any] = {field: [d for p in page if (d := _shown(p, named)) is not None]}
        if len(found) > len(page):
            last = page[-1]
            result["nextCursor"] = cursor(method, EVERYTHING, (last.row.name, last.name) if named else (last.name,))
        return result

    def _united(self, visibility: Visibility, era: str) -> dict[str, Any]:
        key = visibility.key, is_modern(era)
        kept = self._capabilities.get(key)
        if kept is None or kept[0] != self._catalog.revised:
            said = (promised(server.info or {}, era) for server in self._catalog.servers(visibility))
            kept = self._capabilities[key] = self._catalog.revised, united(said)
            if len(self._capabilities) > CAPABILITIES_KEPT:
                self._capabilities.popitem(last=False)
        return kept[1]

    # ---- names ----------------------------------------------------------------------------------

    def _named(self, kind: Kind, label: str, visibility: Visibility) -> Labelled:
        return labelled(kind, label, self._catalog, self._directory, visibility)

    def _owner(self, uri: str, visibility: Visibility) -> str:
        server = owner_of(uri, self._directory, visibility)
        if server is None:
            raise Unknown(f"no server is known to have {uri!r}; read it at the address of the server that named it")
        return server

    def _reference(self, params: dict[str, Any], visibility: Visibility) -> tuple[str, dict[str, Any]]:
        ref = params.get("ref")
        if not isinstance(ref, dict):
            raise Invalid(f"params.ref is {type_name(ref)}; give an object that says what is to be completed")
        if ref.get("type") == "ref/prompt":
            found = self._named(Kind.PROMPT, _text(ref, "name", "params.ref"), visibility)
            return found.server, {**params, "ref": {**ref, "name": found.name}}
        uri = _text(ref, "uri", "params.ref")
        server = owner_of_reference(uri, self._directory, visibility)
        if server is None:
            raise Unknown(f"no server is known to have {uri!r}")
        return server, params

    def _visible(self, caller: Caller, action: Action) -> Visibility:
        return self._guard.visible(caller.principal, action)


def _shown(place: Place, named: bool) -> dict[str, Any] | None:
    """The definition as listed; None for one whose listed name another has."""
    definition = place.row.members[place.name].definition
    if not named:
        return definition
    label = place.row.label_of.get(place.name)
    return None if label is None else {**definition, "name": label}


def _text(params: dict[str, Any], member: str, where: str = "params") -> str:
    value = params.get(member)
    if not isinstance(value, str):
        raise Invalid(f"{where}.{member} is {type_name(value)}; give a string")
    return value
