"""`toolmesh policy diff`: what policies in shadow mode would change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from node.verbs.governing import policy_app
from node.verbs.options import AsJson, KeyFile, Url, Wait

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLUMNS = ("who", "action", "what", "now", "then", "by", "times")


@policy_app.command("diff")
def policy_diff(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 30) -> None:
    """Show what policies in shadow mode would change at this node: of calls, and of what callers see."""
    from node.verbs.remote import Remote
    from node.verbs.tables import show
    from proto import jsons

    found = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/policy/diff"))
    if as_json:
        typer.echo(jsons.dumps(found))
        return
    show(*render(found))


def render(found: dict[str, Any]) -> Iterator[RenderableType]:
    """The answer of `/api/v1/policy/diff`, for people."""
    from rich.text import Text

    from node.verbs.tables import safe, table

    if not found["shadow"]:
        yield Text("no policy is in shadow mode")
        return
    if not (found["counted"] or found["calls"] or found["lists"]):
        yield Text("nothing would change")
    if counted := found["counted"]:
        rows = [
            [r["who"], r["action"], _what(r), _word(r["before"]), _word(r["after"]), r["rule"], r["times"]]
            for r in counted
        ]
        yield table("calls since the policies changed", _COLUMNS, rows)
    if calls := found["calls"]:
        rows = [[r["subject"], r["action"], _what(r), _word(r["before"]), r["after"], r["rule"]] for r in calls]
        yield table("the latest calls, asked again", _COLUMNS[:-1], rows)
    for change in found["lists"]:
        who = ", ".join(change["callers"])
        yield Text(safe(f"{who} would see {change['after']} instead of {change['before']}"), style="bold")
        yield from (Text(safe(f"  - {name}")) for name in change["lost"])
        yield from (Text(safe(f"  + {name}")) for name in change["gained"])
    if not found["complete"]:
        yield Text("there is more than is compared at once")


def _what(row: dict[str, Any]) -> str:
    return f"{row['server']}/{row['tool']}" if row["tool"] else str(row["server"])


def _word(permitted: bool) -> str:
    return "yes" if permitted else "no"
