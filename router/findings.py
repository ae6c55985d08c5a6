"""What a search found for one caller, in the words in which it is told: pure values and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from router.ports import Hit, SearchResult
from router.signatures import PARAMETERS_SHOWN, prompt_signature, resource_signature, signature

GET_PROMPT, READ_RESOURCE = "prompts/get", "resources/read"
"""As names of tools: how `use_tool` gets what is no tool, wherever a server has no tool of that very name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hit lives. `server` is the name by which this caller reaches it; `replicas` counts owners, itself
    included; `also` names servers whose tools are nearly the same. `why_not`: why it cannot be used now, empty if it
    can; `read_only`: the twin of `use_tool` runs it."""

    server: str
    region: str = ""
    node: str = ""
    health: str = "up"
    replicas: int = 1
    also: tuple[str, ...] = ()
    why_not: str = ""
    read_only: bool = False


class Placed(NamedTuple):
    hit: Hit
    place: Place


@dataclass(frozen=True, slots=True)
class Findings:
    """What a caller is told of one search: what it may use, best first; what would fit but cannot be used now; and
    `instead`, the prompt or resource that fits where no tool does."""

    result: SearchResult
    usable: Sequence[Placed]
    unusable: Sequence[Placed] = ()
    instead: Placed | None = None


def address(placed: Placed) -> dict[str, Any]:
    """What `use_tool` is given, the arguments apart that only the agent knows."""
    key = placed.hit.entry.key
    at = {"mcp_server_name": placed.place.server}
    match key.kind:
        case "prompt":
            return {**at, "mcp_tool_name": GET_PROMPT, "params": {"name": key.tool}}
        case "resource" | "template":
            return {**at, "mcp_tool_name": READ_RESOURCE, "params": {"uri": key.tool}}
    return {**at, "mcp_tool_name": key.tool}


def signature_of(hit: Hit, parameters: int = PARAMETERS_SHOWN) -> str:
    """What `use_tool` takes for it, at most so many parameters of it, on one line."""
    match hit.entry.key.kind:
        case "prompt":
            return prompt_signature(hit.entry.definition, parameters)
        case "resource" | "template":
            return resource_signature(hit.entry.definition)
    return signature(hit.entry.definition, parameters)


def name_of(hit: Hit) -> str:
    """A tool's name on one line, and of what has no such name how it is got."""
    return " ".join(hit.entry.key.tool.split()) if hit.entry.key.kind == "tool" else signature_of(hit, 0)


def schema_of(hit: Hit) -> dict[str, Any] | None:
    schema = hit.entry.definition.get("inputSchema")
    return schema if isinstance(schema, dict) else None
