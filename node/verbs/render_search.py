"""What people see of a search: SERVER TOOL as `toolmesh call` takes them, what the tool needs, and why it is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from node.verbs.render import first_line
from node.verbs.tables import safe

PARTS = ("words", "meaning", "server", "clauses", "name", "feedback", "preference")
_RANKED = {"words": "words_rank", "meaning": "meaning_rank"}


def search(answer: dict[str, Any]) -> list[RenderableType]:
    """Of `node.operator.ports.SearchAnswer`."""
    hits = answer["hits"]
    parts: list[RenderableType] = [] if hits else [Text("nothing found; 'toolmesh status' shows which servers are up")]
    for hit in hits:
        parts += _hit(hit)
    if hits and answer["confidence"] == "none":
        parts.append(Text("nothing seems to fit; these are the nearest", style="yellow"))
    if instead := answer.get("instead"):
        parts.append(Text(f"a {safe(instead['kind'])} seems to fit, though:"))
        parts += _hit(instead)
    for hit in answer.get("unusable", ()):
        text = f"near too, but not usable now: {hit['server']} {hit['tool']} ({hit.get('why_not', '')})"
        parts.append(Text(safe(text), style="yellow"))
    parts.append(Text(_sum(answer), style="dim"))
    if signals := answer.get("signals"):
        said = ", ".join(f"{safe(name)} {value:.2f}" for name, value in signals.items() if value)
        parts.append(Text(f"the label comes of {said}", style="cyan"))
    return parts


def _hit(hit: dict[str, Any]) -> Iterator[RenderableType]:
    owners = ", ".join(dict.fromkeys([hit["owner"], *hit["replicas"]]))
    health = "" if hit["health"] == "up" else f", {safe(hit['health'])}"
    kind = hit.get("kind", "tool")
    alike = f", nearly the same at {safe(', '.join(hit['alike']))}" if hit.get("alike") else ""
    yield Text.assemble(
        (f"{hit['score']:.2f}  ", "dim"),
        (f"{safe(hit['server'])} {safe(hit['tool'])}", "bold"),
        (
            f"  {'' if kind == 'tool' else f'{safe(kind)} '}at {safe(owners)} ({safe(hit['region'])}){health}{alike}",
            "dim",
        ),
    )
    yield _indented(hit["signature"])
    yield _indented(first_line(hit["description"]))
    if why := hit.get("why"):
        yield Padding(Text(_why(why), style="cyan"), (0, 0, 0, 6))


def _why(why: dict[str, Any]) -> str:
    """The parts that had a say, largest first, and the places in the two arms."""
    said = sorted((part for part in PARTS if why.get(part)), key=lambda part: -abs(why[part]))
    parts = []
    for part in said:
        rank = why.get(_RANKED.get(part, ""))
        parts.append(f"{part} {why[part]:+.2f}{f' (place {rank})' if rank else ''}")
    total = sum(why[part] for part in said)
    return f"{total:+.2f} = {', '.join(parts)}" if parts else "nothing speaks for it"


def _sum(answer: dict[str, Any]) -> str:
    mode, confidence = safe(answer["mode"]), safe(answer["confidence"])
    among = f" among {answer['searched']}" if answer.get("searched") else ""
    return f"{mode} search{among}, confidence {confidence}, {answer['took_ms']:.1f} ms"


def _indented(text: str) -> RenderableType:
    return Padding(Text(safe(text)), (0, 0, 0, 6))
