"""What people see of a node's answers, as rich tables. Texts from servers and peers are shown, never interpreted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

SKEW_SHOWN_MS = 1_000
_PIPE_COLUMNS = 10_000
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
    """To stdout; long lines are folded to a terminal and left alone, without colours or padding, in a pipe."""
    if sys.stdout.isatty():
        Console().print(Group(*parts), markup=False, highlight=False)
        return
    # A table takes no more than its cells need, so this width folds nothing.
    console = Console(width=_PIPE_COLUMNS, soft_wrap=True, color_system=None)
    with console.capture() as captured:
        console.print(Group(*parts), markup=False, highlight=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


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


def status(answer: dict[str, Any], now: datetime | None = None) -> list[RenderableType]:
    """Of `node.operator.ports.Status`; `now` is the time that ages are counted to."""
    now = now or datetime.now(UTC)
    return [
        table("", ("", ""), _facts(answer, now)),
        "",
        table("nodes", ("name", "region", "state", "since (UTC)", "tools", "lag", "rtt", "note"), _nodes(answer, now)),
        "",
        servers(answer["servers"]),
    ]


def _facts(answer: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    node, search, totals = answer["node"], answer["search"], answer["totals"]
    yield "node", f"{node['id']}, {node['version']}"
    yield "agents", f"{node['http']}"
    yield "peers", f"{node['grpc']}" if node["grpc"] else "none: this node runs alone"
    if expires := node.get("certificate_expires_at"):
        ends = datetime.fromisoformat(expires)
        yield "certificate", f"until {ends:%Y-%m-%d}, {(ends - now).days} days left"
    model = search["embedder"] or "words only"
    counted = f"{search['embedded']} of {search['tools']} tools embedded"
    yield "search", f"{search['mode']} ({model}), {counted}" + f"; {search['problem']}" * bool(search["problem"])
    nodes = 1 + sum(bool(p["name"]) for p in answer["peers"])
    yield (
        "mesh",
        ", ".join((_count(nodes, "node"), _count(totals["servers"], "server"), _count(totals["tools"], "tool"))),
    )
    running = f", {totals['in_flight']} in flight" if "in_flight" in totals else ""
    yield "calls", f"{totals['calls']} since the start, {totals['failed']} failed{running}"


def _nodes(answer: dict[str, Any], now: datetime) -> Iterator[tuple[Any, ...]]:
    node = answer["node"]
    state = "draining" if node["draining"] else "up" if node["loaded"] else "starting"
    started = datetime.fromisoformat(node["started_at"])
    own = sum(s["tools"] for s in answer["servers"] if s["owner"] == node["name"])
    yield node["name"], node["region"], state, _since(started, now), own, "–", "–", "this node"
    for p in answer["peers"]:
        # An address where no node has been met has no history to be dated.
        since = _since(now - timedelta(seconds=p["since_s"]), now) if p["name"] else "–"
        name, region = (p["name"], p["region"]) if p["name"] else (p["address"], "–")
        yield name, region, p["state"], since, p["tools"], _lag(p), _ms(p["rtt_ms"]), _note(p)


def _lag(peer: dict[str, Any]) -> str:
    # What changed at a node that is not heard cannot be known.
    if peer["lag_changes"] is None or peer["state"] not in ("alive", "draining"):
        return "–"
    behind = peer["lag_changes"]
    return f"{_count(behind, 'change')}, {peer['lag_s'] or 0:.1f} s" if behind else "none"


def _note(peer: dict[str, Any]) -> str:
    why = peer["last_error"] if peer["state"] == "alive" else peer["cause"] or peer["last_error"]
    found = [why] if why else []
    if peer["rejected"]:
        found.append(f"{_count(peer['rejected'], 'record')} refused here")
    if abs(peer["skew_ms"] or 0) >= SKEW_SHOWN_MS:
        found.append(f"its clock is {peer['skew_ms'] / 1000:+.1f} s off")
    return "; ".join(found)


def servers(found: list[dict[str, Any]]) -> RenderableType:
    """Of `ServerStatus`es; the members of one service are counted where they are declared."""
    if not found:
        return Text("no servers")
    members = Counter(s["service"] for s in found)
    up = Counter(s["service"] for s in found if s["state"] == "up")
    rows = (
        (
            s["name"], s["owner"], s["region"], s["state"], s["tools"],
            f"{s['service']}, {up[s['service']]} of {members[s['service']]} up" if s["service"] else "–",
            s["cause"],
        )
        for s in found
    )  # fmt: skip
    return table("servers", ("name", "node", "region", "state", "tools", "service", "note"), rows)


def search(answer: dict[str, Any]) -> list[RenderableType]:
    """Of `node.operator.ports.SearchAnswer`: SERVER TOOL as `toolmesh call` takes them, then what the tool needs."""
    hits = answer["hits"]
    if not hits:
        return [Text("nothing found; 'toolmesh status' shows which servers are up")]
    parts: list[RenderableType] = []
    for h in hits:
        owners = ", ".join(dict.fromkeys([h["owner"], *h["replicas"]]))
        health = "" if h["health"] == "up" else f", {safe(h['health'])}"
        parts.append(
            Text.assemble(
                (f"{h['score']:.2f}  ", "dim"),
                (f"{safe(h['server'])} {safe(h['tool'])}", "bold"),
                (f"  at {safe(owners)} ({safe(h['region'])}){health}", "dim"),
            )
        )
        parts += [_indented(h["signature"]), _indented(_first_line(h["description"]))]
    if answer["confidence"] == "none":
        parts.append(Text("nothing seems to fit; these are the nearest", style="yellow"))
    mode, confidence = safe(answer["mode"]), safe(answer["confidence"])
    parts.append(Text(f"{mode} search, confidence {confidence}, {answer['took_ms']:.1f} ms", style="dim"))
    return parts


def _indented(text: str) -> RenderableType:
    return Padding(Text(safe(text)), (0, 0, 0, 6))


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


def _since(at: datetime, now: datetime) -> str:
    age = now - at
    shown = f"{at:%H:%M:%S}" if age < timedelta(days=1) else f"{at:%Y-%m-%d %H:%M}"
    return f"{shown}, {_duration(max(0.0, age.total_seconds()))}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
