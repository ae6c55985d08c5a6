"""What people see of what is laid down: lists, how old it is, and where a change is in force."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from node.verbs.tables import safe, table
from node.words import count, duration

NAMES_SHOWN = 12
HEARD_S = 5
"""An authority that was heard so recently is there."""


def done(answer: Mapping[str, Any]) -> str:
    """Of `node.operator.governed.ChangeAnswer`: one line."""
    parts = ["done" if answer["changed"] else "it was so already"]
    parts.append(f"in force at {count(len(answer['in_force']), 'node')} ({_names(answer['in_force'])})")
    if answer["waiting"]:
        parts.append(f"NOT YET confirmed by {_names(answer['waiting'])}")
    if answer["away"]:
        parts.append(f"away and told on return: {_names(answer['away'])}")
    return f"{'; '.join(parts)}; laid down at {_names(answer['authorities'])}"


def in_short(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of `GovernanceStatus`: what the facts of a node say; nothing where nothing was laid down."""
    laid = [a for a in status["authorities"] if any(a[k] for k in ("keys", "policies", "tenants", "held", "revoked"))]
    if laid:
        yield (
            "laid down by",
            ", ".join(f"{a['name']} ({_heard(a)}{'' if a['counts'] else ', grants nothing'})" for a in laid),
        )
    if status["closed"]:
        yield "CLOSED", f"everything is refused: {status['closed']}"
    for problem in status["problems"]:
        if problem not in status["closed"]:
            yield "to mend", problem


def governance(answer: Mapping[str, Any]) -> list[RenderableType]:
    """Of `GovernanceStatus`, with `held` and `revoked`."""
    rows = [_authority(a) for a in answer["authorities"]]
    says = "may lay down rules" if answer["writes"] else "carries changes to an authority"
    age = duration(answer["age_s"])
    parts: list[RenderableType] = [
        Text(f"{safe(answer['node'])} {says}; what an authority says counts for {age} after it was last heard"),
        *(Text(f"EVERYTHING IS REFUSED: {safe(answer['closed'])}", style="red") for _ in [0] if answer["closed"]),
        *(Text(f"to mend: {safe(p)}", style="yellow") for p in answer["problems"]),
        "",
        table("", ("authority", "heard", "keys", "policies", "tenants", "disabled", "revoked", "note"), rows)
        if rows
        else Text("nothing has been laid down"),
    ]
    for title, shown in (("disabled", held(answer)), ("revoked", revoked(answer))):
        if answer["held" if title == "disabled" else "revoked"]:
            parts += ["", Text(title, style="bold"), *shown]
    return parts


def keys(answer: Mapping[str, Any]) -> list[RenderableType]:
    rows = (
        (
            k["name"],
            "yes" if k["counts"] else "no",
            k["tenant"] or "–",
            ", ".join(k["scopes"]) or "–",
            ", ".join(k["groups"]) or "–",
            ", ".join(k["servers"]),
            ", ".join(k["addresses"]) or "any",
            k["expires_at"] or "never",
            k["last_used_at"] or "–",
            f"{k['digest']}…",
            k["authority"],
        )
        for k in answer["keys"]
    )
    columns = "name", "counts", "tenant", "scopes", "groups", "servers", "from", "ends", "last used", "digest", "by"
    return [table("", columns, rows)] if answer["keys"] else [Text("no key was made with 'toolmesh key create'")]


def policies(answer: Mapping[str, Any]) -> list[RenderableType]:
    rows = (
        (p["name"], p["mode"], "yes" if p["grants"] else "forbids only", p["authority"], p["by"] or "–", p["at"] or "–")
        for p in answer["policies"]
    )
    columns = "name", "mode", "counts", "authority", "set by", "at"
    return [table("", columns, rows)] if answer["policies"] else [Text("no policy is laid down")]


def texts(answer: Mapping[str, Any]) -> list[RenderableType]:
    def each() -> Iterator[RenderableType]:
        for p in answer["policies"]:
            yield Text(f"// {safe(p['name'])} ({p['mode']}), {safe(p['authority'])}", style="dim")
            yield Text(f"{safe(p['text']).strip()}\n")

    return list(each()) or policies(answer)


def tenants(answer: Mapping[str, Any]) -> list[RenderableType]:
    rows = (
        (t["name"], t["title"], ", ".join(t["addresses"]) or "any", "yes" if t["counts"] else "no", t["authority"])
        for t in answer["tenants"]
    )
    columns = "name", "title", "from", "exists", "authority"
    return [table("", columns, rows)] if answer["tenants"] else [Text("tenants are not governed: any name is one")]


def held(answer: Mapping[str, Any]) -> list[RenderableType]:
    rows = (
        (h["server"], h["tool"] or "all of it", h["owner"] or "any", h["reason"] or "–", h["by"] or "–", h["at"] or "–")
        for h in answer["held"]
    )
    return [table("", ("server", "tool", "owner", "why", "by", "at"), rows)]


def revoked(answer: Mapping[str, Any]) -> list[RenderableType]:
    rows = ((r["credential"], r["reason"] or "–", r["by"] or "–", r["at"] or "–") for r in answer["revoked"])
    return [table("", ("credential", "why", "by", "at"), rows)]


LISTS: Mapping[str, Callable[[Mapping[str, Any]], list[RenderableType]]] = {
    "keys": keys,
    "policies": policies,
    "texts": texts,
    "tenants": tenants,
}


def _authority(a: Mapping[str, Any]) -> tuple[Any, ...]:
    notes = [] if a["role"] else ["has no role any longer: its denials alone count"]
    if a["role"] and not a["counts"]:
        notes.append("not heard for too long: what it grants does not count")
    notes += a["unreadable"]
    return (
        a["name"], _heard(a), a["keys"], a["policies"], a["tenants"], a["held"], a["revoked"], "; ".join(notes) or "–",
    )  # fmt: skip


def _heard(a: Mapping[str, Any]) -> str:
    return f"{duration(a['heard_s'])} ago" if a["heard_s"] >= HEARD_S else "now"


def _names(names: list[str]) -> str:
    shown = ", ".join(safe(n) for n in names[:NAMES_SHOWN])
    return shown + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")
