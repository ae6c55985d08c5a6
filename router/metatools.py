"""The tools through which an agent reaches all others: their words, and what their arguments mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.arguments import DETAILS, KINDS, LIMIT_MAX, TASK_MAX, Search, Taking, Use, fold

SEARCH, ADD, USE, READ = "search_mcp_server", "add_mcp_server", "use_tool", "use_read_only_tool"

# Byte-stable: clients pin tool descriptions, and model caches are keyed by them. A change is a release note. Every word
# is paid for by every agent at every start: what clients do not send to a model (titles, hints) is all that is extra,
# and `region` and `kind` are understood without being listed.
_SEARCH_TOOL: dict[str, Any] = {
    "name": SEARCH,
    "title": "Find tools",
    "description": (
        "Find tools on all connected servers. Search once per step of a task, in plain words ('convert USD to EUR'), "
        "not once for the whole task. Run a hit with use_tool by the names shown; nothing needs adding first. If "
        "nothing fits, search in other words or do without."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "task_description": {"type": "string", "description": "What the tool should do"},
            "key_words": {"type": "string", "description": "Products or things, comma-separated"},
            "server": {"type": "string", "description": "Only this server"},
            "detail": {"type": "string", "enum": list(DETAILS)},
            "limit": {"type": "integer"},
        },
        "required": ["task_description"],
    },
    "annotations": {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False},
}
_ADD_TOOL: dict[str, Any] = {
    "name": ADD,
    "title": "Show a server's tools",
    "description": "List all tools of a server, starting it if need be. Not needed before use_tool.",
    "inputSchema": {
        "type": "object",
        "properties": {"mcp_server_name": {"type": "string"}},
        "required": ["mcp_server_name"],
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
    "description": "Run a tool that search_mcp_server has shown. Its result comes back unchanged.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "mcp_server_name": {"type": "string"},
            "mcp_tool_name": {"type": "string"},
            "params": {"type": "object", "description": "The tool's arguments"},
        },
        "required": ["mcp_server_name", "mcp_tool_name"],
    },
    "annotations": {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True},
}
META_TOOLS: list[dict[str, Any]] = [_SEARCH_TOOL, _ADD_TOOL, _USE_TOOL]
"""Raw MCP tool objects, as `tools/list` shows them."""

READ_ONLY_TOOL: dict[str, Any] = {
    **_USE_TOOL,
    "name": READ,
    "title": "Use a tool that only reads",
    "description": "Like use_tool, for tools that a search marks read-only; changes nothing.",
    "annotations": {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": True},
}
"""The twin of `use_tool` that clients may approve unasked, where a node is configured to offer it."""

SPELLINGS: Mapping[str, str] = {fold(name): name for name in (SEARCH, ADD, USE, READ)}
"""Folded → name: Nacos' npm router has the first three as `SearchMcpServer`, `AddMcpServer` and `UseTool`."""

_SERVER = {"servername": "mcp_server_name", "server": "mcp_server_name"}
_SEARCH_TAKES = Taking(
    SEARCH,
    ("task_description", "key_words", "server", "region", "kind", "detail", "limit"),
    {"mcpservername": "server", "topk": "limit"},
)
_ADD_TAKES = Taking(ADD, ("mcp_server_name",), _SERVER)
_USE_NAMES = ("mcp_server_name", "mcp_tool_name", "params")
_USE_TAKES = {name: Taking(name, _USE_NAMES, {**_SERVER, "toolname": "mcp_tool_name"}) for name in (USE, READ)}


def parse_search(arguments: Mapping[str, Any]) -> Search:
    """Raises `Invalid`, as the other two do, for a missing, unknown or mistyped argument."""
    given = _SEARCH_TAKES.read(arguments)
    return Search(
        given.plain_text("task_description", TASK_MAX),
        given.words("key_words"),
        given.number("limit", LIMIT_MAX),
        given.choice("detail", DETAILS, "signatures"),
        given.optional_text("region"),
        given.optional_text("server"),
        given.choice("kind", KINDS, "tool"),
    )


def parse_add(arguments: Mapping[str, Any]) -> str:
    """The server's name."""
    return _ADD_TAKES.read(arguments).text("mcp_server_name")


def parse_use(arguments: Mapping[str, Any], name: str = USE) -> Use:
    """`name` is that of the meta-tool: `use_tool` or its twin."""
    given = _USE_TAKES[name].read(arguments)
    # A tool's name belongs to its server: spaces around it may be part of it.
    tool = given.text("mcp_tool_name", strip=False)
    return Use(given.text("mcp_server_name"), tool, given.object("params", tool))
