"""Answers of the meta-tools: a text that costs an agent few tokens, and the same as structured content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proto import jsons
from router.documents import description_of, first_sentence
from router.ports import Hit, SearchResult

SCHEMAS_SHOWN = 3
SCHEMA_BYTES_MAX = 4_000
PARAMETERS_SHOWN = 12
CHOICES_SHOWN = 5
TYPE_LENGTH_MAX = 60
TYPE_DEPTH_MAX = 3
ADDED_SHOWN = 100

NOTHING_FITS = "Nothing seems to fit. The nearest tools, in case one does:"
NOTHING_AT_ALL = "No tool fits, and none is near. Search again in other words."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hit lives. `server` is the name by which this caller reaches it; `replicas` counts owners, itself
    included."""

    server: str
    region: str = ""
    node: str = ""
    health: str = "up"
    replicas: int = 1


def render_search(result: SearchResult, *, places: Callable[[Hit], Place]) -> dict[str, Any]:
    """An MCP tool result; about 40 tokens of text a tool, full schemas in the structured part for the first few."""
    placed = [(hit, places(hit)) for hit in result.hits]
    lines = [_line(hit, place) for hit, place in placed]
    if not lines:
        head = NOTHING_AT_ALL
    elif result.confidence == "none":
        head = NOTHING_FITS
    else:
        head = f"Confidence: {result.confidence}. Run one with use_tool(mcp_server_name, mcp_tool_name, params):"
    return _result(
        "\n".join([head, *lines]),
        {
            "confidence": result.confidence,
            "mode": result.mode,
            "tookMs": round(result.took_ms, 2),
            "tools": [_structured(hit, place, schema=i < SCHEMAS_SHOWN) for i, (hit, place) in enumerate(placed)],
        },
    )


def render_added(server_name: str, tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a server offers, at most 100 tools of it, as an MCP tool result."""
    head = f"Server {server_name} is ready with {len(tools)} tool{'' if len(tools) == 1 else 's'}:"
    lines = [_described(tool) for tool in tools[:ADDED_SHOWN]]
    if len(tools) > ADDED_SHOWN:
        lines.append(f"… and {len(tools) - ADDED_SHOWN} more; find them with search_mcp_server")
    shown = [
        {
            "mcp_tool_name": str(tool.get("name", "")),
            "signature": signature(tool),
            "description": first_sentence(description_of(tool)),
        }
        for tool in tools[:ADDED_SHOWN]
    ]
    structured = {"mcp_server_name": server_name, "total": len(tools), "tools": shown}
    return _result(
        "\n".join([head if tools else f"Server {server_name} is ready but offers no tools.", *lines]), structured
    )


def signature(definition: dict[str, Any]) -> str:
    """`get_current_time(timezone: string, verbose?: boolean)`: required parameters first, at most 12."""
    schema = definition.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        properties = {}
    listed = schema.get("required") if isinstance(schema, dict) else None
    required = {r for r in listed if isinstance(r, str)} if isinstance(listed, list) else set()
    order = sorted(properties, key=lambda name: name not in required)
    parts = [f"{name}{'' if name in required else '?'}: {_type(properties[name])}" for name in order]
    if len(parts) > PARAMETERS_SHOWN:
        parts[PARAMETERS_SHOWN:] = ["…"]
    return _one_line(f"{definition.get('name', '')}({', '.join(parts)})")


def _type(schema: Any, depth: int = 0) -> str:
    if not isinstance(schema, dict) or depth > TYPE_DEPTH_MAX:
        return "any"
    text = "any"
    choices, kind = schema.get("enum"), schema.get("type")
    options = schema.get("anyOf") or schema.get("oneOf")
    if "const" in schema:
        choices = [schema["const"]]
    if isinstance(choices, list) and choices:
        text = "|".join(_literal(c) for c in choices[:CHOICES_SHOWN]) + ("|…" if len(choices) > CHOICES_SHOWN else "")
    elif isinstance(options, list) and options:
        text = "|".join(dict.fromkeys(_type(o, depth + 1) for o in options))
    elif kind == "array":
        item = _type(schema.get("items"), depth + 1)
        text = f"({item})[]" if "|" in item else f"{item}[]"
    elif isinstance(kind, list):
        text = "|".join(str(k) for k in kind)
    elif isinstance(kind, str):
        text = kind
    return text if len(text) <= TYPE_LENGTH_MAX else text[: TYPE_LENGTH_MAX - 1] + "…"


def _literal(value: Any) -> str:
    return jsons.dumps(value).decode("utf-8")


def _line(hit: Hit, place: Place) -> str:
    where = "/".join(filter(None, (place.region, place.node)))
    facts = [f"{hit.score:.2f}", where]
    if place.replicas > 1:
        facts.append(f"{place.replicas} replicas")
    if place.health != "up":
        facts.append(place.health)
    return f"- {place.server} · {_described(hit.entry.definition)} [{', '.join(filter(None, facts))}]"


def _described(definition: dict[str, Any]) -> str:
    sentence = first_sentence(description_of(definition))
    return f"{signature(definition)}: {sentence}" if sentence else signature(definition)


def _structured(hit: Hit, place: Place, *, schema: bool) -> dict[str, Any]:
    definition = hit.entry.definition
    shown: dict[str, Any] = {
        "mcp_server_name": place.server,
        "mcp_tool_name": hit.entry.key.tool,
        "signature": signature(definition),
        "description": first_sentence(description_of(definition)),
        "score": hit.score,
        "region": place.region,
        "node": place.node,
        "health": place.health,
        "replicas": place.replicas,
    }
    full = definition.get("inputSchema")
    if schema and isinstance(full, dict) and len(jsons.dumps(full)) <= SCHEMA_BYTES_MAX:
        shown["inputSchema"] = full
    return shown


def _result(text: str, structured: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": False}


def _one_line(text: str) -> str:
    return " ".join(text.split())
