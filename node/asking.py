"""What a request asks for: which action, of what that a server offers. One table for entry nodes and owners. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from node.ports import Action
from proto.errors import Invalid
from proto.jsons import type_name
from proto.records import Kind

LISTEN = "subscriptions/listen"

READS = frozenset(
    {
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
        "completion/complete",
        LISTEN,
    }
)
"""Methods that run nothing. Whatever is not known here is a call."""

ACCOMPANYING = frozenset(
    {
        LISTEN,
        "tasks/get",
        "tasks/result",
        "tasks/cancel",
        "tasks/update",
        "tasks/list",
        "logging/setLevel",
    }
)
"""Methods about what the caller has begun, or about its connection: open to whoever may use anything of the server."""

WITH_ARGUMENTS = frozenset({"tools/call", "prompts/get"})
"""Methods whose `params.arguments` policies may read."""


NAME_CHARACTERS_MAX = 8_192
"""Of what a request names: it is kept in records of calls, which are bounded in number."""


METHOD_CHARACTERS_MAX = 128
"""Of a method that nobody here knows; it is kept like a name."""


class Aim(NamedTuple):
    """Something that a server offers, by kind and name."""

    kind: Kind
    name: str


def action_of(method: str) -> Action:
    return Action.READ if method in READS else Action.CALL


def accompanies(method: str) -> bool:
    return method in ACCOMPANYING or method.startswith("notifications/")


def aim_of(method: str, params: dict[str, Any]) -> Aim | None:
    """What the request names; None for a method that names nothing.

    A URI is taken for a resource; what lists it, or which template makes it, the catalogue knows. Raises `Invalid`
    where a name is missing, or is no text: a server might still find something by it that nobody has decided on.
    """
    match method:
        case "tools/call":
            return _aim(Kind.TOOL, params, "name")
        case "prompts/get":
            return _aim(Kind.PROMPT, params, "name")
        case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
            return _aim(Kind.RESOURCE, params, "uri")
        case "completion/complete":
            ref = params.get("ref")
            match ref.get("type") if isinstance(ref, dict) else None:
                case "ref/prompt":
                    return _aim(Kind.PROMPT, ref, "name", "params.ref")
                case "ref/resource":
                    return _aim(Kind.RESOURCE, ref, "uri", "params.ref")
            raise Invalid("params.ref must be an object whose type is 'ref/prompt' or 'ref/resource'")
    return None


def _aim(kind: Kind, named: Any, member: str, where: str = "params") -> Aim:
    name = named.get(member)
    if not isinstance(name, str) or not name:
        raise Invalid(f"{where}.{member} is {type_name(name) if name != '' else 'empty'}; give a text")
    if len(name) > NAME_CHARACTERS_MAX:
        raise Invalid(f"{where}.{member} is longer than {NAME_CHARACTERS_MAX} characters")
    return Aim(kind, name)
