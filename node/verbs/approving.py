"""`toolmesh approvals` and `toolmesh approve`: servers of a node's catalogue that an operator must agree to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer

from node.verbs.options import AsJson, KeyFile, Url, Wait
from proto import jsons

COLUMNS = ("server", "state", "reached by", "asked by", "decided by", "at", "reason")


def approvals(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 10) -> None:
    """Show which servers of a node's catalogue wait for an approver, who asked for them, and what was decided."""
    from node.verbs.remote import Remote

    found = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/approvals"))
    if as_json:
        typer.echo(jsons.dumps(found).decode())
        return
    from node.verbs import tables

    if not found["approvals"]:
        typer.echo("no server of this node's catalogue has 'approval: true'")
        return
    tables.show(tables.table("", COLUMNS, map(_row, found["approvals"])))


def approve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A server, as 'toolmesh approvals' shows it.")],
    deny: Annotated[bool, typer.Option("--deny", help="Do not let it in; one that runs is stopped.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks later.")] = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Let agents add a server of a node's catalogue that waits for an approver."""
    from node.verbs.remote import Remote

    body = {"approved": not deny, "reason": reason}
    path = f"/api/v1/approvals/{quote(name, safe='')}"
    done = asyncio.run(Remote.of(url, key_file, timeout_s).put(path, body))
    if as_json:
        typer.echo(jsons.dumps(done).decode())
        return
    so = "" if done["changed"] else " already"
    what = "may be added with add_mcp_server" if done["state"] == "approved" else "cannot be added"
    typer.echo(f"{done['server']} is {done['state']}{so}: it {what}")


VERBS = (approvals, approve)


def _row(approval: dict[str, Any]) -> tuple[str, ...]:
    asked = [f"{a['subject']} ({a['at']})" for a in approval["askers"]] + (["and others"] if approval["more"] else [])
    return (
        approval["server"],
        approval["state"],
        approval["reached_by"],
        ", ".join(asked),
        approval["by"],
        approval["at"] or "",
        approval["reason"],
    )
