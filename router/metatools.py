"""The three tools through which an agent reaches all others: their words, their arguments, their answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from proto import jsons
from proto.errors import Invalid
from router.rendering import Place, render_added, render_search, signature

__all__ = [
    "ADD",
    "META_TOOLS",
    "SEARCH",
    "USE",
    "Place",
    "parse_add",
    "parse_search",
    "parse_use",
    "render_added",
    "render_search",
    "signature",
]

SEARCH, ADD, USE = "search_mcp_server", "add_mcp_server", "use_tool"

# Byte-stable: clients pin tool descriptions, and model caches are keyed by them. A change is a release note.
_SEARCH_TOOL: dict[str, Any] = {
    "name": SEARCH,
    "title": "Find tools",
    "description": (
        "Find tools on any connected MCP server by what they should do. Search once per step of the task, in plain "
        "words ('convert 100 USD to EUR', 'read a file'), not once for the whole task. Each hit names its server and "
        "tool and shows what the tool takes; run it with use_tool under exactly these names, nothing needs to be "
        "added first. With confidence 'none' nothing seems to fit: search again in other words, or do without."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "task_description": {
                "type": "string",
                "description": "One step of the task: what the tool should do. At most 4000 characters.",
            },
            "key_words": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "Optional: names of products, servers or things that the tool is about, as a list or "
                "separated by commas.",
            },
        },
        "required": ["task_description"],
        "additionalProperties": False,
    },
    "outputSchema": {
        "type": "object",
        "properties": {
            "confidence": {"type": "string", "enum": ["high", "medium", "low", "none"]},
            "mode": {"type": "string", "enum": ["hybrid", "lexical"]},
            "tookMs": {"type": "number"},
            "tools": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "mcp_server_name": {"type": "string"},
                        "mcp_tool_name": {"type": "string"},
                        "signature": {"type": "string"},
                        "description": {"type": "string"},
                        "score": {"type": "number"},
                        "region": {"type": "string"},
                        "node": {"type": "string"},
                        "health": {"type": "string"},
                        "replicas": {"type": "integer"},
                        "inputSchema": {"type": "object"},
                    },
                    "required": ["mcp_server_name", "mcp_tool_name", "signature", "score", "health"],
                },
            },
        },
    },
    "annotations": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
}
_ADD_TOOL: dict[str, Any] = {
    "name": ADD,
    "title": "Show a server's tools",
    "description": (
        "Make one MCP server ready by its name, as a search shows it, and list all its tools. Not needed before "
        "use_tool; use it to see everything a server offers, or to bring in a configured server that is not running."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "mcp_server_name": {"type": "string", "description": "The server's name, exactly as a search shows it."}
        },
        "required": ["mcp_server_name"],
        "additionalProperties": False,
    },
    "annotations": {
        "readOnlyHint": False,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    },
}
_USE_TOOL: dict[str, Any] = {
    "name": USE,
    "title": "Use a tool",
    "description": (
        "Run one tool of one MCP server and return its result unchanged. Works at once for every tool that "
        "search_mcp_server shows, without adding the server first."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "mcp_server_name": {"type": "string", "description": "The server's name, exactly as a search shows it."},
            "mcp_tool_name": {"type": "string", "description": "The tool's name, exactly as a search shows it."},
            "params": {
                "type": "object",
                "description": "The tool's own arguments, as its signature or schema says. Leave out for none.",
                "additionalProperties": True,
            },
        },
        "required": ["mcp_server_name", "mcp_tool_name"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True},
}
META_TOOLS: list[dict[str, Any]] = [_SEARCH_TOOL, _ADD_TOOL, _USE_TOOL]
"""Raw MCP tool objects, as `tools/list` shows them."""


def parse_search(arguments: Mapping[str, Any]) -> tuple[str, list[str]]:
    """(task, key words). Key words come as a list, one string, or a string with commas; null is none.

    Raises `Invalid`, as the other two do, for a missing, misspelt or mistyped argument.
    """
    _only(arguments, SEARCH, ("task_description", "key_words"))
    return _string(arguments, SEARCH, "task_description"), _key_words(arguments.get("key_words"))


def parse_add(arguments: Mapping[str, Any]) -> str:
    """The server's name."""
    _only(arguments, ADD, ("mcp_server_name",))
    return _string(arguments, ADD, "mcp_server_name")


def parse_use(arguments: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """(server, tool, the tool's own arguments). `params` is an object or its JSON text; missing or null is {}."""
    _only(arguments, USE, ("mcp_server_name", "mcp_tool_name", "params"))
    server = _string(arguments, USE, "mcp_server_name")
    # A tool's name belongs to its server: spaces around it may be part of it.
    tool = _string(arguments, USE, "mcp_tool_name", strip=False)
    params = arguments.get("params")
    if isinstance(params, str):
        params = jsons.loads_object(params, "the text in params") if params.strip() else {}
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise Invalid(f"params is {jsons.type_name(params)}; give an object with the arguments of {tool!r}")
    return server, tool, params


def _only(arguments: Mapping[str, Any], tool: str, known: Collection[str]) -> None:
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        hint = "; the tool's own arguments go inside params" if tool == USE else ""
        raise Invalid(f"{tool} takes {', '.join(known)}, not {', '.join(map(repr, unknown[:5]))}{hint}")


def _string(arguments: Mapping[str, Any], tool: str, name: str, *, strip: bool = True) -> str:
    if name not in arguments:
        raise Invalid(f"{tool} needs {name}")
    value = arguments[name]
    if not isinstance(value, str):
        raise Invalid(f"{name} is {jsons.type_name(value)}; give a string")
    if not value.strip():
        raise Invalid(f"{name} is empty; give a text")
    return value.strip() if strip else value


def _key_words(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise Invalid("key_words must be a string, words separated by commas, or an array of strings")
    return [word.strip() for word in value if word.strip()]
