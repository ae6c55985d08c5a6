"""Verbs for what is laid down for the whole mesh: keys, policies, tenants, what is disabled, what is revoked.

Any node takes them: one that is no authority carries them to one. Each may be typed twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from node.verbs.options import AsJson, KeyFile, Url, Wait
from proto import jsons
from proto.errors import Invalid
from proto.names import split_qualified

policy_app = typer.Typer(help="What callers may do, in the whole mesh.", no_args_is_help=True)
tenant_app = typer.Typer(help="Tenants: whose servers, keys and records are whose.", no_args_is_help=True)

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhdw])")

Name = Annotated[str, typer.Argument(metavar="NAME")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks later.")]
Owner = Annotated[str, typer.Option(metavar="NODE", help="Only the one that this node owns; else wherever it is.")]
Force = Annotated[bool, typer.Option("--force", help="Also if you could not administer any more, nor take it back.")]
What = Annotated[str, typer.Argument(metavar="SERVER[/TOOL]", help="A server, or one tool of it.")]


def expiry(text: str, now_s: float) -> int:
    """`30d` and the like, as unix seconds; 0 of nothing. Raises `Invalid`."""
    if not text:
        return 0
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Invalid(f"--expires {text!r} is no span of time; write it like 90m, 12h, 30d or 8w")
    return int(now_s) + int(found[1]) * _UNITS[found[2]]


def target(what: str, owner: str) -> dict[str, str]:
    """SERVER[/TOOL] or SERVER--NODE[/TOOL]. Raises `Invalid`."""
    server, _, tool = what.partition("/")
    bare, node = split_qualified(server)
    if node and owner and node != owner:
        raise Invalid(f"{server!r} names {node!r} already, and --owner {owner!r}; give one of them")
    return {"server": bare, "tool": tool, "owner": owner or node or ""}


# ---- keys ----------------------------------------------------------------------------------------


def key_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will hold the key.")],
    expires: Annotated[str, typer.Option(metavar="SPAN", help="When it ends: 90m, 12h, 30d, 8w; else never.")] = "",
    scope: Annotated[list[str] | None, typer.Option(metavar="SCOPE", help="What it may do; repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option(metavar="GROUP", help="A group it is in; repeatable.")] = None,
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose it is.")] = "",
    server: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Servers it may see; repeatable.")] = None,
    address: Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Where it may be; repeatable.")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Make a key that counts on every node. It is printed once, on stdout, and kept nowhere but as a digest."""
    from node.identity.keys import fresh_key

    key = fresh_key(name)
    body: dict[str, Any] = {
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "expires_s": expiry(expires, time.time()),
    }
    given = {"scopes": scope, "groups": group, "servers": server, "addresses": address, "tenant": tenant}
    body |= {field: value for field, value in given.items() if value}
    answer = asyncio.run(_remote(url, key_file, timeout_s).put(f"/api/v1/keys/{_part(name)}", body))
    if as_json:
        _print({"name": name, "key": key, **answer})
        return
    typer.echo(key)
    typer.echo(f"\nThe key is not kept anywhere, and cannot be shown again. {_done(answer)}", err=True)


def key_list(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 10) -> None:
    """Show the keys that were made with 'key create'; those of configurations are not among them."""
    _list("/api/v1/keys", "keys", url, key_file, as_json, timeout_s)


def key_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the key; a configured one is refused, too.")],
    reason: Reason = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Let a key count no longer, on any node, and its name never again."""
    remote = _remote(url, key_file, timeout_s)
    known = any(key["name"] == name for key in asyncio.run(remote.get("/api/v1/keys"))["keys"])
    answer = asyncio.run(remote.delete(f"/api/v1/keys/{_part(name)}", reason=reason))
    _show(answer, as_json)
    if not known and answer["changed"] and not as_json:
        typer.echo(
            f"no key {name!r} was made with 'key create': nodes that configure one refuse it from now on", err=True
        )


# ---- policies ------------------------------------------------------------------------------------


@policy_app.command("set")
def policy_set(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cedar policies; - reads standard input.")],
    shadow: Annotated[bool, typer.Option("--shadow", help="Decide nothing by it: count what it would change.")] = False,
    force: Force = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Put a policy into force on every node; once there is one, what none permits is refused."""
    body: dict[str, Any] = {"text": _text(file), "mode": "shadow" if shadow else "enforce"}
    if force:
        body["force"] = True
    _show(asyncio.run(_remote(url, key_file, timeout_s).put(f"/api/v1/policies/{_part(name)}", body)), as_json)


@policy_app.command("list")
def policy_list(
    text: Annotated[bool, typer.Option("--text", help="Show what they say, too.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 10,
) -> None:
    """Show the policies that authorities have laid down; those of configurations are not among them."""
    _list("/api/v1/policies", "texts" if text else "policies", url, key_file, as_json, timeout_s)


@policy_app.command("remove")
def policy_remove(
    name: Name,
    force: Force = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Take a policy out of force on every node."""
    remote = _remote(url, key_file, timeout_s)
    _show(asyncio.run(remote.delete(f"/api/v1/policies/{_part(name)}", force="1" if force else "")), as_json)


@policy_app.command("check")
def policy_check(files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Cedar policies.")]) -> None:
    """Say whether policies can be honoured: their syntax, and every attribute that they read. Needs no node."""
    from node.guard.policy import check_policy

    for file in files:
        check_policy(file.name, _text(file))
        typer.echo(f"{file}: good")


# ---- tenants -------------------------------------------------------------------------------------


@tenant_app.command("set")
def tenant_set(
    name: Name,
    title: Annotated[str, typer.Option(metavar="TEXT", help="What people call it.")] = "",
    address: Annotated[list[str] | None, typer.Option(metavar="CIDR", help="Where it may be; repeatable.")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Make or change a tenant; once there is one, a tenant that nobody made does not exist."""
    body = {"title": title, "addresses": address or []}
    _show(asyncio.run(_remote(url, key_file, timeout_s).put(f"/api/v1/tenants/{_part(name)}", body)), as_json)


@tenant_app.command("list")
def tenant_list(url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 10) -> None:
    """Show the tenants."""
    _list("/api/v1/tenants", "tenants", url, key_file, as_json, timeout_s)


@tenant_app.command("remove")
def tenant_remove(
    name: Name, url: Url = None, key_file: KeyFile = None, as_json: AsJson = False, timeout_s: Wait = 30
) -> None:
    """Take a tenant away: its keys count no longer, its servers are seen by nobody."""
    _show(asyncio.run(_remote(url, key_file, timeout_s).delete(f"/api/v1/tenants/{_part(name)}")), as_json)


# ---- disabled, revoked, all of it ----------------------------------------------------------------


def disable(
    what: What,
    owner: Owner = "",
    reason: Reason = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Disable a server or a tool in the whole mesh: nobody sees or runs it until it is enabled."""
    body = {**target(what, owner), "reason": reason}
    _show(asyncio.run(_remote(url, key_file, timeout_s).put("/api/v1/held", body)), as_json)


def enable(
    what: What,
    owner: Owner = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Enable what was disabled in the same words."""
    _show(asyncio.run(_remote(url, key_file, timeout_s).delete("/api/v1/held", **target(what, owner))), as_json)


def revoke(
    credential: Annotated[
        str,
        typer.Argument(metavar="CREDENTIAL", help="key/NAME, user/NAME, jti/ID, cert/SERIAL, subject/ISSUER|SUBJECT…"),
    ],
    reason: Reason = "",
    lift: Annotated[bool, typer.Option("--lift", help="Let it count again.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 30,
) -> None:
    """Let a credential count no longer, on any node; as the audit names it."""
    remote = _remote(url, key_file, timeout_s)
    if lift:
        _show(asyncio.run(remote.delete("/api/v1/revoked", credential=credential)), as_json)
    else:
        _show(asyncio.run(remote.put("/api/v1/revoked", {"credential": credential, "reason": reason})), as_json)


def governance(
    forget: Annotated[
        str, typer.Option(metavar="AUTHORITY", help="Forget, at this node, what one laid down that is gone for good.")
    ] = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    timeout_s: Wait = 10,
) -> None:
    """Show what is in force at a node: from which authorities, how old, what is disabled and revoked."""
    remote = _remote(url, key_file, timeout_s)
    if forget:
        answer = asyncio.run(remote.post("/api/v1/governance/forget", {"authority": forget}))
        _print(answer) if as_json else typer.echo(f"what {forget} laid down is forgotten at this node")
        return
    parts = ("governance", "held", "revoked")
    status, held, revoked = (asyncio.run(remote.get(f"/api/v1/{part}")) for part in parts)
    answer = {**status, **held, **revoked}
    if as_json:
        _print(answer)
        return
    from node.verbs import render_governing, tables

    tables.show(*render_governing.governance(answer))


# ---- within --------------------------------------------------------------------------------------


def _remote(url: str | None, key_file: Path | None, timeout_s: float) -> Any:
    from node.verbs.remote import Remote

    return Remote.of(url, key_file, timeout_s)


def _part(name: str) -> str:
    return quote(name, safe="@")


def _text(file: Path) -> str:
    try:
        return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise Invalid(f"{file} cannot be read: {getattr(e, 'strerror', None) or e}") from None


def _list(path: str, what: str, url: str | None, key_file: Path | None, as_json: bool, timeout_s: float) -> None:
    answer = asyncio.run(_remote(url, key_file, timeout_s).get(path))
    if as_json:
        _print(answer)
        return
    from node.verbs import render_governing, tables

    tables.show(*render_governing.LISTS[what](answer))


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print(answer)
    else:
        typer.echo(_done(answer))


def _done(answer: dict[str, Any]) -> str:
    from node.verbs.render_governing import done

    return done(answer)


def _print(value: Any) -> None:
    typer.echo(jsons.dumps(value).decode())
