"""The same under the names that agents know from Docker's gateway and from ToolHive: words in, words out. Pure.

Argument and result shapes are those that these projects publish; the descriptions are our own. Tools are named
SERVER__TOOL in them, since their calls name no server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proto import jsons
from router.arguments import LIMIT_MAX, TASK_MAX, Search, Taking
from router.budget import fits, tokens
from router.documents import description_of
from router.findings import Findings

FIND_SERVERS, ADD_SERVER, EXEC = "mcp-find", "mcp-add", "mcp-exec"
FIND_TOOL, CALL_TOOL = "find_tool", "call_tool"
SERVERS_FOUND = 10
TOOLS_FOUND = 8
ROOM = 4
"""A result with schemas may cost so many times what a search may."""
DESCRIPTION_MAX = 500

_OPEN = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
_READS = {"readOnlyHint": True, "idempotentHint": True, "openWorldHint": False}
_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}


def _tool(
    name: str, description: str, properties: dict[str, Any], required: list[str], hints: dict[str, bool]
) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "inputSchema": schema, "annotations": hints}


DOCKER = [
    _tool(
        FIND_SERVERS,
        "Find servers by what their tools do. Add one with mcp-add to see its tools.",
        {"query": _TEXT, "limit": {"type": "integer", "description": "10 unless said otherwise"}},
        ["query"],
        _READS,
    ),
    _tool(
        ADD_SERVER,
        "Make a server ready and list its tools, which mcp-exec runs.",
        {"name": _TEXT, "activate": {"type": "boolean"}},
        ["name"],
        {**_OPEN, "destructiveHint": False, "openWorldHint": False},
    ),
    _tool(
        EXEC,
        "Run a tool by the name that mcp-add lists.",
        {"name": _TEXT, "arguments": _OBJECT},
        ["name"],
        _OPEN,
    ),
]
TOOLHIVE = [
    _tool(
        FIND_TOOL,
        "Find tools by what they should do. Run one with call_tool.",
        {"tool_description": _TEXT, "tool_keywords": {"type": "array", "items": _TEXT}},
        ["tool_description"],
        _READS,
    ),
    _tool(
        CALL_TOOL,
        "Run a tool by the name that find_tool gives.",
        {"tool_name": _TEXT, "parameters": _OBJECT},
        ["tool_name", "parameters"],
        _OPEN,
    ),
]
ALIASES: Mapping[str, list[dict[str, Any]]] = {"docker": DOCKER, "toolhive": TOOLHIVE}

_TAKES = {
    FIND_SERVERS: Taking(FIND_SERVERS, ("query", "limit")),
    ADD_SERVER: Taking(ADD_SERVER, ("name", "activate")),
    EXEC: Taking(EXEC, ("name", "arguments")),
    FIND_TOOL: Taking(FIND_TOOL, ("tool_description", "tool_keywords", "limit")),
    CALL_TOOL: Taking(CALL_TOOL, ("tool_name", "parameters")),
}


class Called(NamedTuple):
    """A tool to run by one name alone: SERVER__TOOL, or the tool's own where only one server has it."""

    name: str
    params: dict[str, Any]


def parse_find_servers(arguments: Mapping[str, Any]) -> Search:
    given = _TAKES[FIND_SERVERS].read(arguments)
    # Servers are asked for, and several tools of one may be found.
    return Search(given.plain_text("query", TASK_MAX), limit=given.number("limit", 100) or SERVERS_FOUND)


def parse_add_server(arguments: Mapping[str, Any]) -> str:
    """`activate` says whether the tools are to be listed as the gateway's own, which they never are here."""
    return _TAKES[ADD_SERVER].read(arguments).text("name")


def parse_find_tool(arguments: Mapping[str, Any]) -> Search:
    given = _TAKES[FIND_TOOL].read(arguments)
    limit = given.number("limit", LIMIT_MAX) or TOOLS_FOUND
    return Search(given.plain_text("tool_description", TASK_MAX), given.words("tool_keywords"), limit)


def parse_call(name: str, arguments: Mapping[str, Any]) -> Called:
    """`name` is `EXEC` or `CALL_TOOL`."""
    given = _TAKES[name].read(arguments)
    tool, params = ("name", "arguments") if name == EXEC else ("tool_name", "parameters")
    called = given.text(tool, strip=False)
    return Called(called, given.object(params, called))


def render_servers(query: str, servers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """As Docker's `mcp-find` answers: (name, description) of each, best first."""
    shown = [{"name": name, **({"description": about} if about else {})} for name, about in servers]
    return _text(jsons.dumps({"prompt": query, "total_matches": len(shown), "servers": shown}).decode("utf-8"))


def render_ready(server: str, tools: Sequence[tuple[str, dict[str, Any]]], budget: int) -> dict[str, Any]:
    """As Docker's `mcp-add` answers: each tool under the name that runs it."""
    head = f"Successfully added {len(tools)} tools in server '{server}'. Assume that it is ready to use."
    listed = _listed(tools, budget)
    left = f"\n\n… and {len(tools) - len(listed)} more; mcp-find names servers by what they do" * (
        len(listed) < len(tools)
    )
    text = jsons.dumps({"tools": listed}).decode("utf-8")
    return _text(f"{head}\n\nNewly added tools:\n```json\n{text}\n```{left}")


def render_tools(found: Findings, labels: Sequence[str], everything: int, budget: int) -> dict[str, Any]:
    """As ToolHive's `find_tool` answers. `labels` name the usable hits; `everything` is what the definitions of all
    tools that were searched would cost, in tokens."""
    listed = _listed([(label, p.hit.entry.definition) for label, p in zip(labels, found.usable, strict=True)], budget)
    returned = tokens(jsons.dumps(listed).decode("utf-8"))
    baseline = max(everything, returned)
    structured = {
        "tools": listed,
        "token_metrics": {
            "baseline_tokens": baseline,
            "returned_tokens": returned,
            "savings_percent": round(100 * (baseline - returned) / baseline, 1) if baseline else 0.0,
        },
    }
    return {**_text(jsons.dumps(structured).decode("utf-8")), "structuredContent": structured}


def _listed(tools: Sequence[tuple[str, dict[str, Any]]], budget: int) -> list[dict[str, Any]]:
    """Definitions under other names, as many as four times the budget holds; one that would not fit goes without its
    schema."""
    listed: list[dict[str, Any]] = []
    room = budget * ROOM
    for label, definition in tools:
        schema = definition.get("inputSchema")
        tool = {
            "name": label,
            "description": description_of(definition)[:DESCRIPTION_MAX],
            "inputSchema": schema if isinstance(schema, dict) else {"type": "object"},
        }
        if not _fits(tool, room):
            tool["inputSchema"] = {"type": "object"}
        if _fits(tool, room):
            room -= tokens(jsons.dumps(tool).decode("utf-8"))
            listed.append(tool)
    return listed


def _fits(tool: dict[str, Any], room: int) -> bool:
    return fits(jsons.dumps(tool).decode("utf-8"), room)


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": False}
