"""The `toolmesh` command. Heavy modules are imported by the verbs that need them: `--help` must be quick.

Exit status: 0 done, 1 it failed, 2 the command line or the configuration is wrong, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from node.verbs import approving, governing, policy_diff  # noqa: F401 - a verb of `policy`
from node.verbs.audit import audit_app
from node.verbs.grants import grants_app
from node.verbs.measuring import evaluate
from node.verbs.options import AsJson, KeyFile, Url, Wait
from node.verbs.passwords import key_password
from node.verbs.secrets import app as secrets_app
from proto import jsons
from proto.errors import Fault, Invalid, MeshError

app = typer.Typer(
    name="toolmesh",
    help="A federated mesh of MCP gateways with semantic tool routing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ca_app = typer.Typer(help="The mesh's own certificate authority.", no_args_is_help=True)
feedback_app = typer.Typer(help="What search has learned from use.", no_args_is_help=True)
key_app = typer.Typer(help="API keys of agents and operators, and keys of the mesh.", no_args_is_help=True)
app.add_typer(ca_app, name="ca")
app.add_typer(key_app, name="key")
app.add_typer(secrets_app, name="secrets")
app.command("eval")(evaluate)
app.add_typer(feedback_app, name="feedback")
app.add_typer(audit_app, name="audit")
app.add_typer(governing.policy_app, name="policy")
app.add_typer(governing.tenant_app, name="tenant")
key_app.command("password")(key_password)
for _name in ("create", "list", "revoke"):
    key_app.command(_name)(getattr(governing, f"key_{_name}"))
for _verb in (governing.disable, governing.enable, governing.revoke, governing.governance, *approving.VERBS):
    app.command()(_verb)
app.add_typer(grants_app, name="grants")

ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the node.")]


def _version_asked(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_version_asked, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A federated mesh of MCP gateways with semantic tool routing."""


@app.command()
def up(config: ConfigFile = Path("node.yaml")) -> None:
    """Run a node until it is interrupted."""
    from node.config import load

    loaded = load(config)
    from node import log

    # Before gRPC is imported: it reads then how much it may write past the log.
    log.set_up(loaded.log.level, as_json=loaded.log.as_json)
    from node.serving import run

    raise typer.Exit(run(loaded))


@app.command()
def stdio(
    server: Annotated[str, typer.Option(metavar="NAME", help="Serve this one server; else the three tools.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Serve every tool, as SERVER__TOOL.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Start this node if it does not run.")
    ] = None,
) -> None:
    """Be an MCP server on standard input and output: of a running node, or of one that is started for it."""
    if server and everything:
        raise Invalid("--server and --all exclude each other; give one of them")
    from node.verbs import stdio as verb

    raise typer.Exit(verb.run(url, key_file, config, verb.path_of(server, everything)))


@app.command()
def check(config: ConfigFile = Path("node.yaml")) -> None:
    """Say what a configuration would start and what stands in its way; start nothing."""
    from node.config import load

    loaded = load(config)
    from rich.text import Text

    from node.verbs import tables
    from node.verbs.checks import inspect

    report = inspect(loaded, file=config)
    tables.show(
        tables.table("", ("", ""), report.facts),
        "",
        tables.table("servers", ("name", "reached by", "note"), report.servers) if report.servers else "no servers",
        *(Text(f"warning: {tables.safe(w)}", style="yellow") for w in report.warnings),
        *(Text(f"problem: {tables.safe(p)}", style="red") for p in report.problems),
        *([] if report.problems else [Text("nothing stands in its way", style="green")]),
    )
    if report.problems:
        raise typer.Exit(1)


@app.command()
def demo(once: Annotated[bool, typer.Option("--once", help="Run the story and stop.")] = False) -> None:
    """Start a mesh of three regions on this machine and show what it does."""
    from node.demo.story import main as play

    raise typer.Exit(play(once))


@ca_app.command("init")
def ca_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the CA is made.")],
    trust_domain: Annotated[str, typer.Option(metavar="DOMAIN", help="Name of the mesh, such as mesh.example.org.")],
) -> None:
    """Make the mesh's certificate authority and its mesh key. The authority's own key is needed to issue only."""
    from node.verbs.authority import init

    init(directory, trust_domain)
    typer.echo(f"made a CA for {trust_domain} in {directory}; issue certificates with 'toolmesh ca issue {directory}'")


@ca_app.command("issue")
def ca_issue(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The CA's directory.")],
    node: Annotated[str, typer.Option(metavar="NAME", help="Name of the node.")],
    region: Annotated[str, typer.Option(metavar="NAME", help="Its region.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the node's files go.")],
    host: Annotated[list[str] | None, typer.Option(metavar="HOST", help="Further name or address; repeatable.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")] = 365,
    role: Annotated[list[str] | None, typer.Option(metavar="ROLE", help="authority or relay; repeatable.")] = None,
) -> None:
    """Issue a certificate for one node, with the mesh key, and print the configuration that uses them."""
    from node.verbs.authority import issue_for

    node_id, files, mesh_key = issue_for(directory, node, region, out, hosts=host or [], days=days, roles=role or [])
    typer.echo(f"node:\n  name: {node_id.name}\n  region: {node_id.region}\n  mesh: {node_id.trust_domain}")
    typer.echo("federation:\n  tls:")
    for what, file in zip(("ca", "cert", "key"), files, strict=True):
        typer.echo(f"    {what}: {file}")
    if mesh_key is not None:
        typer.echo(f"  mesh_keys:\n    - {mesh_key}")


@key_app.command("mesh")
def key_mesh(file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is put.")]) -> None:
    """Make a mesh key: the same file goes to every node of a mesh, and is listed in federation.mesh_keys."""
    from node.mesh_keys import make

    make(file)
    typer.echo(
        f"made {file}; copy it to every node, and list it last in federation.mesh_keys before it is listed first"
    )


@key_app.command("new")
def key_new(name: Annotated[str, typer.Argument(metavar="NAME", help="Who will hold the key.")]) -> None:
    """Make a key. It is printed once, on stdout; the configuration entry goes to stderr and holds its digest only."""
    from node.verbs.keys import new_key

    key, entry = new_key(name)
    typer.echo(key)
    typer.echo(f"\nThe key is not kept anywhere. The node knows it by this entry:\n\n{entry}", err=True)


@app.command()
def status(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 10) -> None:
    """Show a running node: its peers, its servers, its search."""
    from node.verbs.remote import Remote

    answer = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/status"))
    if as_json:
        _print_json(answer)
        return
    from node.verbs import render, tables

    tables.show(*render.status(answer))


@app.command()
def peers(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One of them: everything that is known of it.")] = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 10,
) -> None:
    """Show the other nodes of the mesh, as a running node sees them; or one of them, in full."""
    from urllib.parse import quote

    from node.verbs.remote import Remote

    path = f"/api/v1/peers/{quote(name, safe='')}" if name else "/api/v1/peers"
    answer = asyncio.run(Remote.of(url, key_file, timeout_s).get(path))
    if as_json:
        _print_json(answer)
        return
    from node.verbs import render_peers, tables

    tables.show(*(render_peers.peer(answer) if name else render_peers.peers(answer)))


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="TOOL", help="SERVER/TOOL, a server, or a tool.")],
    tool: Annotated[str, typer.Argument(metavar="[TOOL]", help="The tool, if a server came before it.")] = "",
    principal: Annotated[str, typer.Option("--as", metavar="NAME", help="Name of a key, or anonymous; else you.")] = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 10,
) -> None:
    """Say why a tool is visible or not, and where a call of it would go; 1 unless it is both visible and callable."""
    from node.verbs.remote import Remote

    asked = {"server": what, "tool": tool} if tool else {"tool": what}
    if principal:
        asked["as"] = principal
    answer = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/explain", **asked))
    if as_json:
        _print_json(answer)
    else:
        from node.verbs import render_explained, tables

        tables.show(*render_explained.explained(answer))
    if not (answer["visible"] and answer["callable"]):
        raise typer.Exit(1)


@app.command()
def drain(
    undo: Annotated[bool, typer.Option("--undo", help="Take new work again.")] = False,
    wait_s: Annotated[float, typer.Option("--wait", min=0, max=3_600, help="Wait so long at most, in seconds.")] = 30,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Send a node's work elsewhere and wait until nothing runs there; 1 if something still does."""
    from node.verbs import drain as draining
    from node.verbs.remote import Remote

    remote = Remote.of(url, key_file, timeout_s)
    say = partial(typer.echo, err=True)
    answer = asyncio.run(draining.undo(remote) if undo else draining.drain(remote, wait_s, say))
    if as_json:
        _print_json(answer)
    else:
        typer.echo(draining.outcome(answer, wait_s))
    if not undo and not answer.get("done"):
        raise typer.Exit(1)


@feedback_app.command("reset")
def feedback_reset(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 30) -> None:
    """Forget what a node has learned from use; what its peers have learned it hears again, unless they forget too."""
    from node.verbs.remote import Remote

    answer = asyncio.run(Remote.of(url, key_file, timeout_s).post("/api/v1/feedback/reset", {}))
    if as_json:
        _print_json(answer)
    else:
        from node.words import count

        typer.echo(f"{count(answer['forgotten'], 'lesson')} forgotten")


@app.command()
def leave(
    wait_s: Annotated[float, typer.Option("--wait", min=0, max=3_600, help="Wait so long at most, in seconds.")] = 30,
    cut: Annotated[bool, typer.Option("--cut", help="Leave though calls still run after that.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Take a node out of its mesh for good: drain it, tell its peers, end its process; 1 if calls keep it."""
    from node.verbs import leave as leaving
    from node.verbs.remote import Remote

    remote = Remote.of(url, key_file, timeout_s)
    if not (yes or sys.stdin.isatty()):
        raise Invalid("a node that leaves is deleted everywhere, and nobody is here to be asked: give --yes")
    meant = asyncio.run(leaving.consequences(remote))
    if not yes and not typer.confirm(f"{meant}. Go on?", err=True):
        raise typer.Exit(1)
    answer = asyncio.run(leaving.leave(remote, wait_s, cut, partial(typer.echo, err=True)))
    if as_json:
        _print_json(answer)
    else:
        typer.echo(leaving.outcome(answer, wait_s))
    if not answer["left"]:
        raise typer.Exit(1)


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the tool should do, in a few words.")],
    limit: Annotated[int, typer.Option("--limit", "-k", min=1, max=50, help="How many at most.")] = 5,
    server: Annotated[str, typer.Option(help="Only at this server or service.")] = "",
    region: Annotated[str, typer.Option(help="Only at servers in this region.")] = "",
    kind: Annotated[str, typer.Option(help="tool, prompt or resource.")] = "tool",
    explain: Annotated[bool, typer.Option("--explain", help="Why each hit ranks where it does.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Find tools in the whole mesh."""
    from node.verbs.remote import Remote

    asked = {"q": query, "k": str(limit), "server": server, "region": region, "kind": kind}
    asked["explain"] = "1" if explain else ""
    answer = asyncio.run(Remote.of(url, key_file, timeout_s).get("/api/v1/search", **asked))
    if as_json:
        _print_json(answer)
        return
    from node.verbs import render_search, tables

    tables.show(*render_search.search(answer))


@app.command()
def call(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Name of the server, as search shows it.")],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Name of the tool.")],
    arguments: Annotated[str, typer.Argument(metavar="ARGS_JSON", help="Its arguments, a JSON object.")] = "{}",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 310,
) -> None:
    """Run one tool and print its result; a tool that fails gives exit status 1."""
    from node.verbs.remote import Remote

    params = jsons.loads_object(arguments, "ARGS_JSON")
    result = asyncio.run(Remote.of(url, key_file, timeout_s).use_tool(server, tool, params))
    failed = result.get("isError") is True
    if as_json:
        _print_json(result)
    else:
        from node.verbs import render, tables

        text = render.result_text(result)
        typer.echo(tables.safe(text) if sys.stdout.isatty() else text, err=failed)
    if failed:
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(f"toolmesh {installed('toolmesh')}")


def _print_json(value: Any) -> None:
    typer.echo(jsons.dumps(value).decode())


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines() or ["failed"]:
        typer.echo(f"toolmesh: {line}", err=True)
    sys.exit(status)


def main() -> None:
    """Entry point: every error that reaches it becomes a line for a person, never a traceback."""
    try:
        app()
    except Invalid as e:
        _fail(e.message, 2)
    except MeshError as e:
        _fail(e.message, 1)
    except Exception as e:
        fault = Fault()
        logging.getLogger("toolmesh.cli").debug("fault %s", fault.data["fault_id"], exc_info=e)
        _fail(f"internal error {fault.data['fault_id']} ({type(e).__name__}: {e}); please report it", 1)


if __name__ == "__main__":
    main()
