"""`toolmesh grants`: what people agreed to at servers of a node, and taking it back."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from node.verbs.options import AsJson, KeyFile, Url, Wait
from proto import jsons
from proto.errors import Unknown

grants_app = typer.Typer(help="What people agreed that a node may do in their name at a server.", no_args_is_help=True)


COLUMNS = ("grant", "who", "tenant", "by", "scopes", "granted", "token until", "lists")


@grants_app.command("list")
def list_grants(
    server: Annotated[str, typer.Argument(metavar="[SERVER]", help="Of this server alone.")] = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 10,
) -> None:
    """Show grants: all of the node to an operator, to everybody else their own. No token is ever shown."""
    from node.verbs.remote import Remote

    try:
        found = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/grants"))["grants"]
    except Unknown:
        # Only a node with such servers has the route.
        raise Unknown("no server of this node acts on accounts of its callers; ask the node that owns it") from None
    found = [grant for grant in found if server in ("", grant["server"])]
    if as_json:
        typer.echo(jsons.dumps({"grants": found}).decode())
        return
    from node.verbs import tables

    if not found:
        typer.echo("nobody has agreed to anything at this node: /oauth at its address is where people do")
        return
    tables.show(tables.table("", COLUMNS, map(_row, found)))


@grants_app.command("remove")
def remove_grant(
    grant: Annotated[str, typer.Argument(metavar="GRANT", help="As 'toolmesh grants list' shows it.")],
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Take a grant back: its tokens are forgotten here, and revoked where the authorization server offers that."""
    from node.verbs.remote import Remote

    answer = asyncio.run(Remote.of(url, key_file, timeout_s).post("/api/v1/grants/remove", {"id": grant}))
    typer.echo(jsons.dumps(answer).decode() if as_json else f"removed {answer['removed']}")


def _row(grant: dict[str, Any]) -> tuple[str, ...]:
    until = grant["expires_at"] or "not said"
    return (
        grant["id"],
        f"{grant['subject']} ({grant['issuer']})" if grant["issuer"] else grant["subject"],
        grant["tenant"],
        grant["by"],
        " ".join(grant["scopes"]),
        grant["granted_at"],
        f"{until}, then renewed" if grant["refreshable"] else until,
        "as this one" if grant["lists"] else "",
    )
