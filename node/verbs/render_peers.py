"""What people see of peers, refusals and alarms: of each only what is not as it should be, unless all is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from node.verbs.tables import table
from node.words import clock, count, duration, ms, since, size

SKEW_SHOWN_MS = 1_000
EXPIRES_SOON = timedelta(days=30)
LATEST_SHOWN = 8
RECORDS_SHOWN = 20

HEARD = ("alive", "draining")
_UNSUBSCRIBED = "has not subscribed to this node: can it dial the federation.advertise of this node?"
_SIDES = {"here": "this node", "there": "the other"}


def peers(answer: dict[str, Any], now: datetime | None = None) -> list[RenderableType]:
    """Of `{"software": str, "peers": [PeerStatus]}`: a line each."""
    now = now or datetime.now(UTC)
    if not answer["peers"]:
        return [Text("no peer is known: 'toolmesh check' says whether this node federates, and how it looks for them")]
    rows = (
        (
            *_who(p), p["state"], _began(p, now), lag(p), ms(p["rtt_ms"]),
            f"{size(p['received_bytes_s'] + p['sent_bytes_s'])}/s, {p['calls_s']:.1f} calls/s" if p["name"] else "–",
            note(p, answer["software"], now),
        )
        for p in answer["peers"]
    )  # fmt: skip
    return [table("", ("node", "region", "state", "since (UTC)", "lag", "rtt", "traffic", "note"), rows)]


def peer(p: dict[str, Any], now: datetime | None = None) -> list[RenderableType]:
    """Of `node.operator.peers.PeerDetail`: everything."""
    now = now or datetime.now(UTC)
    parts: list[RenderableType] = [table("", ("", ""), _facts(p, now))]
    if p["history"]:
        rows = ((clock(_time(t["at"]), now), t["state"], t["cause"]) for t in reversed(p["history"]))
        parts += ["", table("what became of it, latest first", ("at (UTC)", "state", "cause"), rows)]
    for title, records, total in (
        ("its records that are refused here", p["rejected_records"], p["rejected"]),
        ("records of this node that it refuses", p["refused_there_records"], p["refused_there"]),
    ):
        if records:
            shown = [(r["kind"], r["id"], r["reason"]) for r in records[:RECORDS_SHOWN]]
            parts += ["", table(title, ("kind", "id", "why"), shown), *_more(total - len(shown))]
    return [*parts, *refusals(p["refusals"], now), *alarms(p["alarms"], now)]


def refusals(found: Sequence[dict[str, Any]], now: datetime) -> list[RenderableType]:
    """Of `RefusalStatus`es, newest first."""
    if not found:
        return []
    rows = (
        (clock(_time(r["last_at"]), now), _SIDES.get(r["side"], r["side"]), _short(r["who"]), r["reason"], r["count"],
         r["message"])
        for r in found[:LATEST_SHOWN]
    )  # fmt: skip
    columns = ("last (UTC)", "refused by", "who", "reason", "times", "what was said")
    return ["", table("refusals", columns, rows), *_more(len(found) - LATEST_SHOWN)]


def alarms(found: Sequence[dict[str, Any]], now: datetime) -> list[RenderableType]:
    """Of `AlarmStatus`es, newest first."""
    if not found:
        return []
    rows = (
        (clock(_time(a["last_at"]), now), a["name"], _short(a["about"]), a["count"], a["message"])
        for a in found[:LATEST_SHOWN]
    )
    columns = ("last (UTC)", "alarm", "about", "times", "what to do")
    return ["", table("alarms", columns, rows), *_more(len(found) - LATEST_SHOWN)]


def certificate(expires_at: str, now: datetime) -> str:
    """Until when, with the mend where that is soon."""
    ends = _time(expires_at)
    if ends <= now:
        return f"ended {ends:%Y-%m-%d %H:%M}: no peer accepts it; 'toolmesh ca issue' makes a new one, then restart"
    soon = "; 'toolmesh ca issue' makes a new one, then restart" if ends - now < EXPIRES_SOON else ""
    return f"until {ends:%Y-%m-%d}, {_left(ends, now)} left{soon}"


def lag(p: dict[str, Any]) -> str:
    # What changed at a node that is not heard cannot be known.
    if p["lag_changes"] is None or p["state"] not in HEARD:
        return "–"
    behind = p["lag_changes"]
    return f"{count(behind, 'change')}, {p['lag_s'] or 0:.1f} s" if behind else "none"


def note(p: dict[str, Any], software: str = "", now: datetime | None = None) -> str:
    return "; ".join(_notes(p, software, now or datetime.now(UTC)))


def _notes(p: dict[str, Any], software: str, now: datetime) -> Iterator[str]:
    why = p["last_error"] if p["state"] == "alive" else p["cause"] or p["last_error"]
    if why:
        yield why
    if p["rejected"]:
        yield f"{count(p['rejected'], 'record')} refused here"
    # From here on, members that an older node's answer lacks.
    if p.get("refused_there"):
        yield f"it refuses {count(p['refused_there'], 'record')} of this node"
    if p["state"] in HEARD and p.get("lacks", 0) is None:
        yield f"it {_UNSUBSCRIBED}"
    elif p["state"] in HEARD and p.get("lacks"):
        yield f"it lacks {count(p['lacks'], 'change')} of this node"
    if p.get("view_matches") is False:
        yield "what is held of it differs from its own"
    if abs(p["skew_ms"] or 0) >= SKEW_SHOWN_MS:
        yield f"its clock is {p['skew_ms'] / 1000:+.1f} s off"
    if (expires := p.get("certificate_expires_at")) and (ends := _time(expires)) - now < EXPIRES_SOON:
        yield "its certificate has ended" if ends <= now else f"its certificate ends in {_left(ends, now)}"
    if software and p["software"] and p["software"] != software:
        yield f"runs {p['software']}"


def _facts(p: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    yield "node", f"{p['name']} ({p['region']}), {p['id']}" if p["name"] else "not made out yet"
    yield "address", p["address"]
    why = f": {p['cause'] or p['last_error']}" if p["cause"] or p["last_error"] else ""
    yield "state", f"{p['state']} since {_began(p, now)}{why}" if p["name"] else f"{p['state']}{why}"
    if not p["name"]:
        return
    heard = "never" if p["heard_s"] is None else f"{duration(p['heard_s'])} ago"
    yield "last heard", heard + (f", round trip {ms(p['rtt_ms'])}" if p["rtt_ms"] is not None else "")
    held = f"{count(p['records'], 'record')}, {count(p['tools'], 'tool')} at {p['epoch']}.{p['seq']}"
    yield "held of it", held + ("" if p["listed"] else "; not in lists")
    yield "lag", lag(p) if p["state"] in HEARD else "not known while it is not heard"
    match p["lacks"]:
        case _ if p["state"] == "left":
            lacks = "none: it has left the mesh"
        case _ if p["state"] not in HEARD:
            lacks = "not known while it is not heard"
        case None:
            lacks = f"not known: it {_UNSUBSCRIBED}"
        case 0:
            lacks = "everything of this node is confirmed"
        case n:
            lacks = f"it has not confirmed {count(n, 'change')} of this node"
    yield "its lag", lacks
    hashes = {True: "agree", False: "differ; it is asked for everything again", None: "not compared yet"}
    yield "view hashes", hashes[p["view_matches"]]
    yield (
        "runs",
        f"{p['software'] or '–'}, protocol {p['protocol'] or '–'}, features {', '.join(p['features']) or 'none'}",
    )
    if p["certificate_expires_at"]:
        yield "certificate", f"{certificate(p['certificate_expires_at'], now)}, roles {', '.join(p['roles']) or 'none'}"
    yield "clock", "–" if p["skew_ms"] is None else f"{p['skew_ms'] / 1000:+.3f} s"
    rates = f"{size(p['received_bytes_s'])}/s in, {size(p['sent_bytes_s'])}/s out, {p['calls_s']:.1f} calls/s"
    yield "traffic", rates
    if p["state"] in HEARD:
        yield "its word", f"{p['own_calls']:.0f} calls running, its loop {p['own_lag_ms']:.0f} ms late"
    if p["last_error"]:
        yield "last error", p["last_error"]


def _left(ends: datetime, now: datetime) -> str:
    left = ends - now
    return count(left.days, "day") if left.days else duration(left.total_seconds())


def _who(p: dict[str, Any]) -> tuple[str, str]:
    return (p["name"], p["region"]) if p["name"] else (p["address"], "–")


def _began(p: dict[str, Any], now: datetime) -> str:
    # An address where no node has been met has no history to be dated.
    return since(now - timedelta(seconds=p["since_s"]), now) if p["name"] else "–"


def _short(who: str) -> str:
    """A node's id without what every id has."""
    return who.removeprefix("spiffe://")


def _more(number: int) -> list[RenderableType]:
    return [Text(f"and {number} more; --json has them", style="dim")] if number > 0 else []


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
