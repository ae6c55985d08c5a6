"""What people see of the audit: a line for each record, how the log fares, and what a check of it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType

from node.audit.verifying import Verdict
from node.verbs.tables import safe, table
from node.words import count, size

_QUIET = frozenset({"ok", "allowed"})


def record_line(record: Mapping[str, Any]) -> str:
    """`2026-01-31 12:00:00.123 #7 call ok alice units/convert_unit at eu-1, 1.2 ms`, and why where it is not ok."""
    at = str(record.get("at", "")).replace("T", " ").removesuffix("Z")
    who, what, via = (record.get(part) or {} for part in ("who", "what", "via"))
    kind, action = str(record.get("kind", "")), str(record.get("action", ""))
    outcome = str(record.get("outcome", ""))
    words = [at, f"{record.get('node', '')}#{record.get('seq', '')}", kind]
    if kind != "call":
        words.append(action)
    if outcome:
        words.append(outcome)
    if subject := who.get("subject"):
        words.append(f"{subject} ({who['tenant']})" if who.get("tenant") else str(subject))
    if address := via.get("address"):
        words.append(f"from {address}" + (f" by {via['scheme']}" if via.get("scheme") else ""))
    words.append(_what(what) or str(record.get("peer", "")))
    if entry := via.get("entry"):
        words.append(f"for {entry}")
    if ran := record.get("ran_at"):
        words.append(f"at {ran}")
    line = " ".join(w for w in words if w)
    if kind == "call":
        line += f", {record.get('took_ms', 0):g} ms"
    why = [str(record[part]) for part in ("rule", "reason") if record.get(part) and outcome not in _QUIET]
    if counted := record.get("counted"):
        why.append(f"{counted['refusals']} times since {counted['since']}")
    if lost := record.get("lost"):
        why.append(", ".join(f"{n} {k}" for k, n in lost.items()) + f" lost since {record.get('since')}")
    if follows := record.get("follows"):
        why.append(f"after {follows.get('after')}")
    return safe(line + (f": {'; '.join(why)}" if why else ""))


def _what(what: Mapping[str, Any]) -> str:
    server, tool = what.get("server"), what.get("tool")
    named = f"{server}/{tool}" if server and tool else str(server or what.get("object") or "")
    method = what.get("method")
    return f"{named} {method}".strip() if method and method != "tools/call" else named


def status(answer: Mapping[str, Any]) -> list[RenderableType]:
    """Of `node.audit.recorder.AuditStatus`."""
    lost = ", ".join(f"{n} {kind}" for kind, n in answer["lost"].items())
    rows = [
        ("log of", f"{answer['node']}, {count(answer['records'], 'record')} in {size(answer['bytes'])}"),
        ("head", answer["head"]),
        ("signed", f"up to {answer['signed_to']} by key {answer['key_id'][:16]}"),
        ("last write", answer["last_write_at"] or "none since the start"),
        ("queue", f"{count(answer['queued'], 'record')}; when it is full: {answer['overflow']}"),
        ("lost", f"{lost} since the start" if lost else "nothing since the start"),
    ]
    if answer["problem"]:
        rows.append(("problem", answer["problem"]))
    return [table("", ("", ""), rows)]


def in_short(answer: Mapping[str, Any]) -> str:
    """The same in one line."""
    lost = sum(answer["lost"].values())
    parts = [count(answer["records"], "record"), f"signed up to {answer['signed_to']}"]
    if lost:
        parts.append(f"{lost} lost since the start")
    return ", ".join(parts) + (f"; {answer['problem']}" if answer["problem"] else "")


def verdict(found: Verdict, *, trusted: bool) -> Iterator[str]:
    """Line by line. `trusted`: the reader said whose signatures count."""
    if found.flaw is not None:
        flaw = found.flaw
        yield safe(f"NOT INTACT: {flaw.text}" + (f" ({flaw.where})" if flaw.where else ""))
        if found.records:
            yield safe(f"before that {_held(found)}")
        return
    if not found.records:
        yield "the log is empty"
        return
    yield safe(f"intact: {_held(found)}")
    if found.signed_to:
        keys = ", ".join(k[:16] for k in found.keys)
        proof = "" if trusted else "; that this is the node's key nothing here proves: give --ca or --key"
        yield f"signed up to record {found.signed_to} by key {keys}{proof}"
    left = found.last - found.signed_to
    # The checkpoint at the end of a stop signs what came before it, and not itself.
    if left > 1 or not found.signed_to:
        yield (
            f"the last {count(left, 'record')} no checkpoint covers yet: who can write the log could have written them "
            "anew"
        )
    if found.ends == "stopped":
        yield "it ends with the stop of its node"
    else:
        torn = "its last line was not written whole (a crash, or a cut). " if found.ends == "torn" else ""
        yield (
            f"{torn}it does not end with a stop: the node runs, or it was killed, or the end was cut off, which a log "
            "alone cannot tell. A head that was remembered elsewhere can: --head SEQ:HASH"
        )


def _held(found: Verdict) -> str:
    begins = {"genesis": "from its beginning", "retention": "after what was removed in order", "given": "as given"}
    how = begins.get(found.begins, "")
    return (
        f"{count(found.records, 'record')} of {found.node}, {found.first} to {found.last}, hang together {how}".rstrip()
    )
