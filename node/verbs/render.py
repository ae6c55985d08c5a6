"""What people see of a node's answers to `status`, `servers` and `call`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from node.verbs import render_audit, render_governing
from node.verbs.render_peers import alarms, certificate, lag, note, refusals
from node.verbs.tables import table
from node.words import count, ms, since


def status(answer: dict[str, Any], now: datetime | None = None) -> list[RenderableType]:
    """Of `node.operator.ports.Status`; `now` is the time that ages are counted to."""
    now = now or datetime.now(UTC)
    return [
        table("", ("", ""), _facts(answer, now)),
        "",
        table("nodes", ("name", "region", "state", "since (UTC)", "tools", "lag", "rtt", "note"), _nodes(answer, now)),
        "",
        servers(answer["servers"]),
        *refusals(answer.get("refusals", ()), now),
        *alarms(answer.get("alarms", ()), now),
    ]


def _facts(answer: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    node, search, totals = answer["node"], answer["search"], answer["totals"]
    yield "node", f"{node['id']}, {node['version']}"
    kinds = ("sessions", "streams", "connections")
    open_now = ", ".join(count(totals[kind], kind.removesuffix("s")) for kind in kinds if kind in totals)
    yield "agents", f"{node['http']}" + f"; {open_now}" * bool(open_now)
    told = node.get("advertised")
    reached = f"{node['grpc']}, told to dial {told}" if told and told != node["grpc"] else node["grpc"]
    yield "peers", f"{reached}{_found_by(answer)}" if node["grpc"] else "none: this node runs alone"
    for way in answer.get("discovery", ()):
        if way["problem"]:
            yield f"by {way['name']}", way["problem"]
    if expires := node.get("certificate_expires_at"):
        yield "certificate", certificate(expires, now)
    model = search["embedder"] or "words only"
    counted = f"{search['embedded']} of {search['tools']} tools embedded"
    why = search["problem"] or ("the model is being loaded" if search["mode"] == "lexical" else "")
    yield "search", f"{search['mode']} ({model}), {counted}" + f"; {why}" * bool(why)
    if vectors := search.get("vectors"):
        yield "vectors", _vectors(vectors)
    if learned := search.get("feedback"):
        heard = f", {learned['foreign']} heard from {count(learned['peers'], 'peer')}" if learned["peers"] else ""
        yield "feedback", f"{count(learned['own'], 'lesson')} learned here{heard}"
    nodes = 1 + sum(bool(p["name"]) for p in answer["peers"])
    yield (
        "mesh",
        ", ".join((count(nodes, "node"), count(totals["servers"], "server"), count(totals["tools"], "tool"))),
    )
    running = f", {totals['in_flight']} in flight" if "in_flight" in totals else ""
    if governed := answer.get("governance"):
        yield from render_governing.in_short(governed)
    if audit := answer.get("audit"):
        yield "audit", render_audit.in_short(audit)
    yield "calls", f"{totals['calls']} since the start, {totals['failed']} failed{running}"


def _vectors(v: dict[str, Any]) -> str:
    came = f"{v['from_store']} from the store, {v['from_peers']} from peers, {v['computed']} computed"
    room = f" ({v['disk_bytes'] / 1e6:.0f} MB)" if v["disk_bytes"] else ""
    kept = f"kept in {v['place']}{room}" if v["state"] == "ready" else f"the store is {v['state']} ({v['place']})"
    waiting = f", {v['waiting']} to be written" if v["waiting"] else ""
    lost = f", {v['dropped']} dropped" if v["dropped"] else ""
    doubted = f"; not believed: {', '.join(v['not_believed'])}" if v["not_believed"] else ""
    return f"{came}; {kept}{waiting}{lost}{doubted}"


def _found_by(answer: dict[str, Any]) -> str:
    ways = ", ".join(way["name"] for way in answer.get("discovery", ()))
    return f", found by {ways}" if ways else ""


def _nodes(answer: dict[str, Any], now: datetime) -> Iterator[tuple[Any, ...]]:
    node = answer["node"]
    state = "draining" if node["draining"] else "up" if node["loaded"] else "starting"
    started = datetime.fromisoformat(node["started_at"])
    own = sum(s["tools"] for s in answer["servers"] if s["owner"] == node["name"])
    yield node["name"], node["region"], state, since(started, now), own, "–", "–", "this node"
    for p in answer["peers"]:
        # An address where no node has been met has no history to be dated.
        began = since(now - timedelta(seconds=p["since_s"]), now) if p["name"] else "–"
        name, region = (p["name"], p["region"]) if p["name"] else (p["address"], "–")
        yield name, region, p["state"], began, p["tools"], lag(p), ms(p["rtt_ms"]), note(p, node["version"], now)


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


def first_line(text: str) -> str:
    """At most 120 characters of it."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 120 else line[:119] + "…"
