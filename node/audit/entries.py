"""What is told to the audit, as it waits for its thread, and the facts that become of each: the words of a record."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from node.asking import action_of
from node.audit.masking import CUT, Mask, scrub
from node.ports import Resource
from proto import jsons
from proto.calls import Call
from proto.records import Decision, Principal

if TYPE_CHECKING:
    from node.ports import Ended

NAME_MAX = 256
"""Of one name in a record, in characters; callers and servers choose names."""
REASON_MAX = 500
LIST_MAX = 16
FACT_MAX = 4_096

_NUMBERS = (int, float, bool)


class Bodies(NamedTuple):
    """How bodies are kept: masked, and so many characters of each at most."""

    mask: Mask
    characters_max: int


class Entry(Protocol):
    """What waits. `kind` is that of its record; `facts` is asked once, in the audit's own thread."""

    @property
    def kind(self) -> str: ...

    def facts(self, bodies: Bodies | None) -> dict[str, Any]: ...


class CallEntry(NamedTuple):
    call: Call
    ended: Ended
    kind: str = "call"

    def facts(self, bodies: Bodies | None) -> dict[str, Any]:
        call, record = self.call, self.ended.record
        decision, answer = self.ended.decision, self.ended.answer
        params = jsons.canonical(call.params)
        digests = {"params": hashlib.sha256(params).hexdigest()}
        size = {"in": len(params)}
        if call.tool_digest:
            digests["tool"] = call.tool_digest.hex()
        if answer is not None:
            text = jsons.canonical(answer)
            digests["answer"] = hashlib.sha256(text).hexdigest()
            size["out"] = len(text)
        facts: dict[str, Any] = {
            "at": rfc3339(record.at_ms),
            "kind": self.kind,
            "action": action_of(call.method).value,
            "side": record.side,
            "who": who(call.principal),
            "what": _called(record.server, record.tool, record.owner, record.method),
            "ran_at": record.owner if record.attempts else "",
            "outcome": record.outcome,
            "took_ms": record.took_ms,
            "attempts": record.attempts,
            "call_id": name(record.call_id),
            "digests": digests,
            "bytes": size,
        }
        if record.side == "owner" and call.via:
            facts["via"] = {"entry": name(call.via[0])}
        if decision is not None:
            facts["rule"] = name(decision.rule)
            facts["reason"] = reason(decision.reason)
        if trace := call.trace.get("traceparent"):
            facts["trace"] = trace[:55]
        if bodies is not None:
            facts["bodies"] = {"params": bodies.mask.body(call.params, "params", bodies.characters_max)}
            if answer is not None:
                facts["bodies"]["answer"] = bodies.mask.body(answer, "answer", bodies.characters_max)
        return facts


class DecisionEntry(NamedTuple):
    at_ms: int
    principal: Principal
    action: str
    resource: Resource
    decision: Decision
    call_id: str
    shadow: str
    kind: str = "decision"

    def facts(self, bodies: Bodies | None) -> dict[str, Any]:
        allowed = self.decision.allowed
        facts = {
            "at": rfc3339(self.at_ms),
            "kind": self.kind,
            "action": name(self.action),
            "who": who(self.principal),
            "what": _filled(
                server=name(self.resource.server), tool=target(self.resource.tool), owner=name(self.resource.owner)
            ),
            "outcome": "allowed" if allowed else "denied",
            "rule": name(self.decision.rule),
            "reason": reason(self.decision.reason),
            "call_id": name(self.call_id),
        }
        if self.shadow:
            facts["outcome"] = "would be allowed" if allowed else "would be denied"
            facts["shadow"] = name(self.shadow)
        return facts


class SigninEntry(NamedTuple):
    """So many `refusals` at one address between `first_ms` and `at_ms`, the words being those of the last."""

    at_ms: int
    address: str
    scheme: str
    reason: str
    refusals: int = 1
    first_ms: int = 0
    kind: str = "signin"

    def facts(self, bodies: Bodies | None) -> dict[str, Any]:
        facts = {
            "at": rfc3339(self.at_ms),
            "kind": self.kind,
            "action": "authenticate",
            "via": _filled(address=name(self.address), scheme=name(self.scheme)),
            "outcome": "refused",
            "reason": reason(self.reason),
        }
        if self.refusals > 1:
            facts["counted"] = {"refusals": self.refusals, "since": rfc3339(self.first_ms)}
        return facts


class AdminEntry(NamedTuple):
    at_ms: int
    principal: Principal
    verb: str
    what: str
    outcome: str
    reason: str
    before: Any
    after: Any
    kind: str = "admin"

    def facts(self, bodies: Bodies | None) -> dict[str, Any]:
        digests = {
            when: jsons.digest(value).hex()
            for when, value in (("before", self.before), ("after", self.after))
            if value is not None
        }
        return {
            "at": rfc3339(self.at_ms),
            "kind": self.kind,
            "action": name(self.verb),
            "who": who(self.principal),
            "what": _filled(object=scrub(name(self.what))),
            "outcome": name(self.outcome),
            "reason": reason(self.reason),
            "digests": digests,
        }


class EventEntry(NamedTuple):
    """Of a peer or of this node itself; `more` are facts of their own, small JSON values."""

    at_ms: int
    kind: str
    event: str
    reason: str
    more: dict[str, Any]

    def facts(self, bodies: Bodies | None) -> dict[str, Any]:
        own = {"at": rfc3339(self.at_ms), "kind": self.kind, "action": name(self.event), "reason": reason(self.reason)}
        return {**{name(k): _bounded(v) for k, v in self.more.items()}, **own}


def facts_of(entry: Entry, bodies: Bodies | None) -> dict[str, Any]:
    """What is empty is left out. Never raises: what cannot be written is told by a record that says so."""
    try:
        return {k: v for k, v in entry.facts(bodies).items() if v or v.__class__ in _NUMBERS}
    # Whatever it holds came from callers and servers; one that cannot be written must not end the log.
    except Exception as e:
        why = f"this record cannot be written: {type(e).__name__}"
        return {"at": rfc3339(now_ms()), "kind": entry.kind, "action": "unwritable", "reason": why}


# Callers come again and again. What is returned is never changed.
@lru_cache(maxsize=1_024)
def who(principal: Principal) -> dict[str, Any]:
    return _filled(
        subject=name(principal.subject),
        issuer=name(principal.issuer),
        tenant=name(principal.tenant),
        kind=principal.kind,
        actors=[name(a) for a in principal.actors[:LIST_MAX]],
        credential=name(principal.credential),
    )


def name(text: str) -> str:
    """A name, cut; one with a lone surrogate in it, which no log can hold, is shown with a question mark for it."""
    if len(text) > NAME_MAX:
        text = text[: NAME_MAX - 1] + CUT
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def target(text: str) -> str:
    """A tool's name as it is; a URI without what often is a secret in it: credentials and the query."""
    if "://" not in text:
        return name(text)
    bare, asked, _ = text.partition("?")
    scheme, _, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    return name(f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}{'?' + CUT if asked else ''}")


def reason(text: str) -> str:
    if not text:
        return ""
    if len(text) > REASON_MAX:
        text = text[: REASON_MAX - 1] + CUT
    return scrub(text.encode("utf-8", "replace").decode())


# As many as a node's tools in use; texts that callers make up push each other out.
@lru_cache(maxsize=4_096)
def _called(server: str, tool: str, owner: str, method: str) -> dict[str, Any]:
    return _filled(server=name(server), tool=target(tool), owner=name(owner), method=name(method))


def _filled(**members: Any) -> dict[str, Any]:
    return {k: v for k, v in members.items() if v}


def _bounded(value: Any) -> Any:
    text = jsons.dumps(value)
    return value if len(text) <= FACT_MAX else f"{len(text)} bytes, too many to be kept"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def rfc3339(wall_ms: int) -> str:
    """Unix milliseconds in UTC, to the millisecond."""
    return f"{_second(wall_ms // 1000)}.{wall_ms % 1000:03d}Z"


# Records come in the order of time: nearly all are of the second of the one before.
@lru_cache(maxsize=16)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
