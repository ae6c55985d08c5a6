"""`toolmesh secrets`: what lies encrypted in the node's data directory. The node may run meanwhile.

No verb prints a value, and none takes one from the command line, which other users of the machine can read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proto.errors import Conflict, Invalid, Unknown

if TYPE_CHECKING:
    from node.secrets.sqlite import SqliteSecrets

app = typer.Typer(help="Secrets that this node keeps encrypted, by name.", no_args_is_help=True)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the node.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As in {store: NAME}.")]


@app.command("key")
def key(
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead.")] = None,
) -> None:
    """Make a key for a store; it goes into a file or a variable that secrets.key names."""
    from node.secrets.keys import new_key

    if out is None:
        typer.echo(new_key())
        return
    from node.mesh_keys import write

    try:
        write(out, new_key().encode() + b"\n")
    except Conflict:
        raise Conflict(f"{out} exists already; a store that is under its key would not open without it") from None
    typer.echo(f"made {out}; keep a copy apart from the data directory, and name it in secrets.key: {{file: {out}}}")


@app.command("set")
def put(name: Name, config: ConfigFile = Path("node.yaml")) -> None:
    """Put or replace a secret, from standard input or typed in unseen."""
    from node.secrets.ports import checked_name

    checked_name(name)
    with _store(config) as store:
        store.set(name, _typed(name) if sys.stdin.isatty() else _piped())
    typer.echo(f"secret {name} is set; servers that use it get it when the node starts next")


@app.command("list")
def show(config: ConfigFile = Path("node.yaml")) -> None:
    """Print the names, one a line."""
    with _store(config) as store:
        for name in store.names():
            typer.echo(name)


@app.command("remove")
def remove(name: Name, config: ConfigFile = Path("node.yaml")) -> None:
    """Delete a secret."""
    with _store(config) as store:
        if not store.remove(name):
            raise Unknown(f"no secret is named {name!r}; 'toolmesh secrets list' shows those there are")
    typer.echo(f"secret {name} is removed")


@app.command("rotate")
def rotate(config: ConfigFile = Path("node.yaml")) -> None:
    """Encrypt everything anew under secrets.key; what is under secrets.old_key is opened with that."""
    from node.words import count

    with _store(config) as store:
        moved = store.rotate()
    mend = "a node that runs must be restarted, and secrets.old_key taken out of the configuration"
    typer.echo(f"{count(moved, 'secret')} under secrets.key now; {mend}")


@app.command("check")
def check(config: ConfigFile = Path("node.yaml")) -> None:
    """Open every secret, and name those that were changed by somebody without the key; 1 if there are any."""
    from node.words import count

    with _store(config) as store:
        names, spoilt, rotated = store.names(), store.verify(), store.rotated
    for name in spoilt:
        typer.echo(f"secret {name} does not open: it was changed without the key; set it anew", err=True)
    if not rotated:
        typer.echo("all of it is under secrets.old_key still: run 'toolmesh secrets rotate'", err=True)
    if spoilt:
        raise typer.Exit(1)
    typer.echo(f"{count(len(names), 'secret')}, and each opens")


@contextmanager
def _store(config: Path) -> Iterator[SqliteSecrets]:
    """The store that a configuration names, which need not be sound otherwise: secrets it refers to may be missing."""
    from node.config import NodeConfig
    from node.settings.secrets import opened_store
    from node.settings.source import overlay, read_environment, read_yaml

    data = overlay(read_yaml(config).data, read_environment(NodeConfig))
    try:
        store = opened_store(data, config.absolute().parent)
    except ValueError as e:
        raise Invalid(f"{config}: {e}") from None
    store.by = _user()
    try:
        yield store
    finally:
        store.close()


def _user() -> str:
    """Who runs this, as the machine names them, for the node's record."""
    import os
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def _typed(name: str) -> str:
    value: str = typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt=True, err=True)
    return value


def _piped() -> str:
    from node.secrets.ports import VALUE_BYTES_MAX

    raw = sys.stdin.buffer.read(VALUE_BYTES_MAX + 3)
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Invalid("standard input is not UTF-8 text") from None
