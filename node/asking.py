"""What a request asks for: which action, of what that a server offers. One table for entry nodes and owners. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from node.ports import Action
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


class Aim(NamedTuple):
    """Something that a server offers, by kind and name."""

    kind: Kind
    name: str


def action_of(method: str) -> Action:
    return Action.READ if method in READS else Action.CALL


def accompanies(method: str) -> bool:
    return method in ACCOMPANYING or method.startswith("notifications/")


def aim_of(method: str, params: dict[str, Any]) -> Aim | None:
    """What the request names; None where it names nothing, or nothing that could be a name.

    A URI is taken for a resource; what lists it, or which template makes it, the catalogue knows.
    """
    match method:
        case "tools/call":
            return _aim(Kind.TOOL, params.get("name"))
        case "prompts/get":
            return _aim(Kind.PROMPT, params.get("name"))
        case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
            return _aim(Kind.RESOURCE, params.get("uri"))
        case "completion/complete":
            ref = params.get("ref")
            if not isinstance(ref, dict):
                return None
            if ref.get("type") == "ref/prompt":
                return _aim(Kind.PROMPT, ref.get("name"))
            return _aim(Kind.RESOURCE, ref.get("uri"))
    return None


def _aim(kind: Kind, name: object) -> Aim | None:
    return Aim(kind, name) if isinstance(name, str) and name else None
