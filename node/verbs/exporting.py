"""`toolmesh eval --export DIR`: the tools that a running node lists, as a corpus to write queries for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node.verbs.remote import Remote
from proto import jsons
from proto.errors import Conflict, Unavailable
from router.evaluation.sets import CORPUS, QUERIES

PAGES_MAX = 1_000
BETWEEN = "__"


async def export(remote: Remote, folder: Path) -> str:
    """Writes `corpus.jsonl` into `folder`; what happened, in a line. Raises `Conflict` where there is one already."""
    _refuse_another(folder / CORPUS)
    servers = (await remote.get("/api/v1/servers"))["servers"]
    about = {str(s.get("name")): str(s.get("description") or "") for s in servers}
    lines = [jsons.dumps(row) + b"\n" for row in _rows(await _tools(remote), about)]
    _write(folder / CORPUS, lines)
    return f"wrote {len(lines)} tools to {folder / CORPUS}; write queries with known answers into {folder / QUERIES}"


def _refuse_another(path: Path) -> None:
    if path.exists():
        raise Conflict(f"{path} is there already; name another folder, or move it away")


def _write(path: Path, lines: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))


async def _tools(remote: Remote) -> list[dict[str, Any]]:
    """Every tool that the caller may see, named SERVER__TOOL."""
    tools: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        page = await remote.ask("/mcp-all", "tools/list", cursor)
        tools += page.get("tools", [])
        if not page.get("nextCursor"):
            return tools
        cursor = {"cursor": page["nextCursor"]}
    raise Unavailable(f"the node's list of tools has no end: {PAGES_MAX} pages were read")


def _rows(tools: list[dict[str, Any]], about: dict[str, str]) -> Iterator[dict[str, Any]]:
    for tool in tools:
        server, _, name = str(tool.get("name", "")).partition(BETWEEN)
        row = {
            "server": server,
            "tool": name,
            "description": tool.get("description"),
            "title": tool.get("title"),
            "input_schema": tool.get("inputSchema"),
            "server_description": about.get(server),
        }
        yield {member: value for member, value in row.items() if value}
