"""An owner's records on their way into the catalogue: what a body must hold, what a batch amounts to. Pure."""

from __future__ import annotations

from typing import Any

from node.ownership import ownership_of
from proto.errors import Invalid
from proto.jsons import type_name
from proto.names import check_server_name, split_member
from proto.records import Kind, Record

Offered = tuple[Kind, str]
"""Something that a server offers: its kind, and its name (of resources the URI, of templates the template)."""

_NAME_FIELD = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}
_HINTS = tuple((name, f"{name}Hint") for name in ("readOnly", "destructive", "idempotent", "openWorld"))
_SERVER_OBJECTS = ("health", "labels", "serverInfo", "capabilities", "modernCapabilities")
_SERVER_STRINGS = ("service", "instructions")


def server_body(record: Record) -> dict[str, Any]:
    """Raises `Invalid` for a member of another type than this node works with; absent or null is fine."""
    check_server_name(record.id)
    body = record.data()
    for name in _SERVER_OBJECTS:
        if not isinstance(body.get(name), dict | None):
            raise Invalid(f"{name!r} is {type_name(body[name])}, where an object is needed")
    for name in _SERVER_STRINGS:
        if not isinstance(body.get(name), str | None):
            raise Invalid(f"{name!r} is {type_name(body[name])}, where a string is needed")
    if body.get("service"):
        check_server_name(body["service"])
    ownership_of(body)
    return body


def member_body(record: Record) -> tuple[str, str, dict[str, Any]]:
    """(server, name of the member, its definition). Raises `Invalid` if definition and id disagree on the name."""
    server, member = split_member(record.id)
    definition = record.data()
    if definition.get(_NAME_FIELD[record.kind]) != member:
        raise Invalid(f"its {_NAME_FIELD[record.kind]!r} is not {member!r}, as its id says")
    return server, member, definition


def speaks_anew(before: dict[str, Any] | None, after: dict[str, Any]) -> bool:
    """Whether a server says something else of itself, so that its tools are to be read anew; its health is no such
    thing: a server that comes and goes would cost as much as all of its tools, each time."""
    return before is None or {**before, "health": None} != {**after, "health": None}


def hints(definition: dict[str, Any]) -> dict[str, bool]:
    """What a tool's server says of it (MCP `ToolAnnotations`), by short name; only what it says in so many words."""
    annotations = definition.get("annotations")
    if not isinstance(annotations, dict):
        return {}
    return {name: said for name, key in _HINTS if isinstance(said := annotations.get(key), bool)}


class Change:
    """What one batch of records did to one server. `anew`: it says something else of itself."""

    __slots__ = ("_deleted", "_put", "anew", "kinds")

    def __init__(self) -> None:
        self.anew = False
        self.kinds: set[Kind] = set()
        self._put: dict[Offered, None] = {}
        self._deleted: dict[Offered, None] = {}

    def put(self, kind: Kind, name: str) -> None:
        self.kinds.add(kind)
        self._put[kind, name] = None
        self._deleted.pop((kind, name), None)

    def delete(self, kind: Kind, name: str) -> None:
        self.kinds.add(kind)
        self._deleted[kind, name] = None
        self._put.pop((kind, name), None)

    @property
    def offered(self) -> tuple[Offered, ...]:
        return tuple(self._put)

    @property
    def withdrawn(self) -> tuple[Offered, ...]:
        return tuple(self._deleted)
