"""`toolmesh audit`: what is on record, and whether the record is whole. Imports nothing heavy before it is asked to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from node.verbs.options import AsJson, KeyFile, Url, Wait
from proto import jsons

audit_app = typer.Typer(help="The record of calls, denials, acts of operators and peers.", invoke_without_command=True)

Who = Annotated[str, typer.Option(metavar="SUBJECT", help="Only what this principal did.")]
Server = Annotated[str, typer.Option(metavar="NAME", help="Only at this server or service.")]
Tool = Annotated[str, typer.Option(metavar="NAME", help="Only this tool, prompt or URI.")]
Outcome = Annotated[str, typer.Option(metavar="WORD", help="ok, tool_error, denied, an error's kind, …")]
Kind = Annotated[str, typer.Option(metavar="KIND", help="call, decision, signin, admin, peer or system.")]
CallId = Annotated[str, typer.Option(metavar="ID", help="Only this call.")]
Tenant = Annotated[str, typer.Option(metavar="NAME", help="Only what principals of this tenant did.")]
Since = Annotated[str, typer.Option(metavar="TIME", help="2026-01-31T12:00Z, 2026-01-31, or an age: 15m, 2h, 7d.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="The same, for the end.")]


@audit_app.callback()
def audit(context: typer.Context) -> None:
    """The record of calls, denials, acts of operators and peers; by itself: how it fares."""
    if context.invoked_subcommand is None:
        status()


@audit_app.command()
def status(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 30) -> None:
    """How far the log has come, what is lost, what fails; 1 if anything does."""
    from node.verbs.remote import Remote

    answer = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/audit/status"))
    if as_json:
        typer.echo(jsons.dumps(answer).decode())
    else:
        from node.verbs import render_audit, tables

        tables.show(*render_audit.status(answer))
    if answer["problem"]:
        raise typer.Exit(1)


@audit_app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many to begin with.")] = 20,
    who: Who = "",
    server: Server = "",
    kind: Kind = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """The latest records, oldest first."""
    from node.verbs import auditing
    from node.verbs.remote import Remote

    asked = {"who": who, "server": server, "kind": kind}
    asyncio.run(auditing.tail(Remote.of(url, key_file, timeout_s), asked, limit, follow, as_json))


@audit_app.command()
def query(
    who: Who = "",
    server: Server = "",
    tool: Tool = "",
    outcome: Outcome = "",
    kind: Kind = "",
    call_id: CallId = "",
    tenant: Tenant = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    mesh: Annotated[bool, typer.Option("--mesh", help="Ask every node of the mesh, 1,000 at most.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Records that fit, newest first; 1 if some node was asked and did not answer."""
    from node.verbs import auditing
    from node.verbs.remote import Remote

    asked = {"who": who, "server": server, "tool": tool, "outcome": outcome, "kind": kind, "call_id": call_id}
    asked |= {"tenant": tenant, "since": since, "until": until, "mesh": "1" if mesh else ""}
    complete = asyncio.run(auditing.query(Remote.of(url, key_file, timeout_s), asked, limit, as_json))
    if not complete:
        raise typer.Exit(1)


@audit_app.command()
def export(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there; else to standard output.")] = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="Lines as they are, or a table.")] = "jsonl",
    since: Since = "",
    until: Until = "",
    tenant: Tenant = "",
    kind: Kind = "",
    url: Url = None,
    key_file: KeyFile = None,
    timeout_s: Wait = 30,
) -> None:
    """Everything of a span of time, oldest first. All of it, as jsonl, can be checked by `verify`."""
    from node.verbs import auditing
    from node.verbs.remote import Remote

    asked = {"since": since, "until": until, "tenant": tenant, "kind": kind}
    count = asyncio.run(auditing.export(Remote.of(url, key_file, timeout_s), asked, form, out))
    if out is not None:
        from node.words import count as counted

        typer.echo(f"{counted(count, 'record')} in {out}")


@audit_app.command()
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]…", help="audit.db, files of lines in their order, or a directory of either."),
    ] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="The store of the node that FILE of -c is of.")
    ] = False,
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Its configuration.")] = Path(
        "node.yaml"
    ),
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The mesh's CA, which vouches for nodes' keys.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A key that may sign: public, private, certificate.")
    ] = None,
    after: Annotated[str, typer.Option(metavar="SEQ:HASH", help="What the first record must follow.")] = "",
    head: Annotated[
        str, typer.Option(metavar="SEQ:HASH", help="A record that must be there, as 'status' showed it.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Whether a log is what its node wrote; names the first record that is not, and then 1. Needs no running node."""
    from node.verbs import auditing

    verdict = auditing.verify(files or [], from_store, config, ca, key, after, head)
    if as_json:
        typer.echo(jsons.dumps(auditing.shown(verdict)).decode())
    else:
        from node.verbs import render_audit

        for line in render_audit.verdict(verdict, trusted=bool(ca or key or from_store)):
            typer.echo(line)
    if not verdict.intact:
        raise typer.Exit(1)
