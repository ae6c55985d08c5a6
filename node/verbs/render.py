"""What people see of a node's answers, as rich tables. Texts from servers and peers are shown, never interpreted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    "alive": "green",
    "up": "green",
    "starting": "yellow",
    "suspect": "yellow",
    "draining": "yellow",
    "unreachable": "red",
    "down": "red",
    "left": "dim",
}
# C0 and C1 controls but tab and line feed: an escape sequence in a tool's answer must not drive the terminal.
_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))}


def safe(value: Any) -> str:
    """As text without control characters."""
    return str(value).translate(_CONTROLS)


def show(*parts: RenderableType) -> None:
    """To stdout; long lines are folded to a terminal and left alone in a pipe."""
    console = Console() if sys.stdout.isatty() else Console(width=200, soft_wrap=True)
    console.print(Group(*parts), markup=False, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    shown = Text(title, style="bold") if title else None
    made = Table(
        title=shown, title_justify="left", box=None, pad_edge=False, header_style="dim", show_header=any(columns)
    )
    for column in columns:
        made.add_column(Text(column), overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell), style=_STYLES.get(str(cell), "")) for cell in row))
    return made


def status(answer: dict[str, Any]) -> list[RenderableType]:
    """Of `node.operator.ports.Status`."""
    node, search, totals = answer["node"], answer["search"], answer["totals"]
    state = "draining" if node["draining"] else "up" if node["loaded"] else "starting"
    parts: list[RenderableType] = [
        table(
            "node",
            ("name", "region", "mesh", "state", "agents at", "peers at", "version", "since"),
            [
                (
                    node["name"], node["region"], node["mesh"], state, node["http"], node["grpc"] or "–",
                    node["version"], node["started_at"],
                )
            ],
        )
    ]  # fmt: skip
    if answer["peers"]:
        rows = (
            (
                p["name"] or p.get("address", "?"), p["region"], p["state"], _duration(p["since_s"]), p["tools"],
                _or_dash(p["lag_changes"]), _ms(p["rtt_ms"]), p["last_error"] or p["cause"],
            )
            for p in answer["peers"]
        )  # fmt: skip
        parts += ["", table("peers", ("name", "region", "state", "for", "tools", "lag", "rtt", "note"), rows)]
    parts += ["", servers(answer["servers"])]
    embedded = f"{search['embedded']} of {search['tools']} tools embedded"
    parts += ["", Text(f"search: {search['mode']}, {embedded}" + (f"; {search['problem']}" * bool(search["problem"])))]
    parts.append(Text("totals: " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in totals.items())))
    return parts


def servers(found: list[dict[str, Any]]) -> RenderableType:
    if not found:
        return Text("no servers")
    rows = (
        (s["name"], s["owner"], s["region"], s["state"], s["tools"], s["service"] or "–", s["cause"]) for s in found
    )
    return table("servers", ("name", "node", "region", "state", "tools", "service", "note"), rows)


def search(answer: dict[str, Any]) -> list[RenderableType]:
    """Of `node.operator.ports.SearchAnswer`."""
    hits = answer["hits"]
    if not hits:
        return [Text("nothing found")]
    rows = (
        (h["server"], h["tool"], h["region"], f"{h['score']:.2f}", h["signature"], _first_line(h["description"]))
        for h in hits
    )
    parts: list[RenderableType] = [table("", ("server", "tool", "region", "score", "signature", "what it does"), rows)]
    if answer["confidence"] == "none":
        parts.append(Text("nothing seems to fit; these are the nearest", style="yellow"))
    return parts


def result_text(result: dict[str, Any]) -> str:
    """The texts of an MCP tool result, other blocks named; its structured content where there is no text."""
    from proto import jsons

    lines = []
    for block in result.get("content") or ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "text":
            lines.append(str(block.get("text", "")))
        else:
            lines.append(f"[{block.get('type')} {block.get('mimeType') or block.get('uri') or ''}]".replace(" ]", "]"))
    if not lines and "structuredContent" in result:
        lines.append(jsons.dumps(result["structuredContent"]).decode())
    return "\n".join(lines)


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 120 else line[:119] + "…"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _or_dash(value: Any) -> Any:
    return "–" if value is None else value
