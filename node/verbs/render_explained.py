"""What people see of `toolmesh explain`: the verdict, then what was found on the way to it."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from node.verbs.tables import safe, table
from node.words import ms

_SIGNS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}
_ABOUT_WIDTH = 10


def explained(answer: dict[str, Any]) -> list[RenderableType]:
    """Of `node.operator.explained.Explanation`."""
    good = answer["visible"] and answer["callable"]
    parts: list[RenderableType] = [Text(safe(answer["verdict"]), style="bold green" if good else "bold yellow"), ""]
    for finding in answer["findings"]:
        sign, style = _SIGNS[finding["ok"]]
        about = f"{safe(finding['about']):<{_ABOUT_WIDTH}}  "
        parts.append(Text.assemble((f"{sign} ", style), (about, "dim"), safe(finding["text"])))
        if finding["mend"]:
            parts.append(Text(f"{'':{_ABOUT_WIDTH + 4}}→ {safe(finding['mend'])}"))
    if answer["owners"]:
        alone = sum(not o["why_not"] for o in answer["owners"]) == 1
        rows = (
            (
                o["qualified"], o["region"], o["state"], o["server"], o["digest"] or "–", o["in_flight"],
                ms(o["latency_ms"] or None), o["why_not"] or ("goes here" if alone else _warmth(o["warmth"])),
            )
            for o in answer["owners"]
        )  # fmt: skip
        columns = ("owner", "region", "node", "server", "definition", "in flight", "latency", "the next call")
        parts += ["", table("owners, as this node would choose", columns, rows)]
    return parts


def _warmth(warmth: float) -> str:
    return "may go here" if warmth >= 1 else f"may go here, with weight {warmth:.2f}: it came up or back lately"
