"""What an operator lays down at an authority, checked there, within bounds. Each change may be asked for twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from node.governance.bodies import (
    BODIES,
    BY_CHARACTERS_MAX,
    Authored,
    HeldBody,
    HeldEntry,
    KeyBody,
    PolicyBody,
    body_of,
    check_id,
    record_of,
)
from node.governance.governance import MeshGovernance
from proto.errors import Conflict, Exhausted, Invalid
from proto.records import Kind, Record, RecordKey

MOST: Mapping[Kind, int] = {
    Kind.KEY: 10_000,
    Kind.POLICY: 1_000,
    Kind.TENANT: 1_000,
    Kind.QUARANTINE: 5_000,
    Kind.REVOCATION: 10_000,
}
"""Records of one authority: half of what a node may own (`federation.admission.RECORDS_MAX`), and some."""

HELD_MAX = 50_000
"""Of one authority, over all servers."""

CheckPolicy = Callable[[str, str], None]
"""`(name, text)`; raises `Invalid` for what does not compile."""


class Changes:
    """`governance` must be one that writes. `wall_s` gives unix seconds."""

    def __init__(
        self, governance: MeshGovernance, check_policy: CheckPolicy, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._governance = governance
        self._check_policy = check_policy
        self._wall_s = wall_s

    def set(self, kind: Kind, record_id: str, data: Mapping[str, Any], by: str) -> bool:
        """Whether anything changed. Raises `Invalid` naming the field, `Conflict`, or `Exhausted` at a bound."""
        check_id(kind, record_id)
        if kind is Kind.QUARANTINE:
            return self._hold(record_id, data, by)
        body = self._body(kind, record_id, data)
        known = self._own(kind, record_id)
        if isinstance(known, Authored) and known.model_copy(update={"by": "", "at": 0}) == body:
            return False
        self._room(kind, record_id)
        return self._put(record_of(kind, record_id, self._signed(body, by)))

    def remove(self, kind: Kind, record_id: str, data: Mapping[str, Any], by: str) -> bool:
        """Whether anything changed. A key that is removed is revoked, under its name, wherever it is known."""
        check_id(kind, record_id)
        key = RecordKey(kind, record_id)
        match kind:
            case Kind.QUARANTINE:
                return self._release(record_id, data)
            case Kind.KEY:
                revocation = RecordKey(Kind.REVOCATION, f"key/{record_id}")
                if revocation in self._governance.own():
                    return self._governance.lay_down([], [key])
                self._room(Kind.REVOCATION, revocation.id)
                reason = body_of(Kind.REVOCATION, data)
                record = record_of(Kind.REVOCATION, revocation.id, self._signed(reason, by))
                return self._governance.lay_down([record], [key])
        return self._governance.lay_down([], [key])

    # ---- each kind's own rules ------------------------------------------------------------------

    def _body(self, kind: Kind, name: str, data: Mapping[str, Any]) -> Authored:
        if given := data.keys() & {"by", "at"}:
            raise Invalid(f"{min(given)!r} is not yours to say; leave it out")
        body = body_of(kind, data)
        match body:
            case KeyBody():
                self._check_key(name, body)
            case PolicyBody():
                self._check_policy(name, body.text)
        assert isinstance(body, Authored)  # noqa: S101 - all but HeldBody, which is made here
        return body

    def _check_key(self, name: str, body: KeyBody) -> None:
        state = self._governance.state
        if 0 < body.expires_s <= self._wall_s():
            raise Invalid("'expires_s' has passed already; give a later one")
        if f"key/{name}" in state.revoked:
            raise Conflict(
                f"a key {name!r} was revoked, and what is revoked stays so: choose another name, or lift it with "
                f"'toolmesh revoke --lift key/{name}'"
            )
        if state.tenants_governed and body.tenant and body.tenant not in state.tenants:
            raise Invalid(f"'tenant': there is no tenant {body.tenant!r}; make it with 'toolmesh tenant set'")
        digest = bytes.fromhex(body.sha256)
        for known in state.keys.values():
            if (known.name == name) != (known.sha256 == digest):
                what = f"a key {name!r}" if known.name == name else "this key, under another name,"
                raise Conflict(
                    f"{what} is there already (laid down at {known.authority}); choose another, or revoke it"
                )

    def _hold(self, server: str, data: Mapping[str, Any], by: str) -> bool:
        if given := data.keys() & {"by", "at"}:
            raise Invalid(f"{min(given)!r} is not yours to say; leave it out")
        (entry,) = _held({"held": [dict(data)]}).held
        known = self._entries(server)
        if any((h.tool, h.owner) == (entry.tool, entry.owner) and entry.reason in ("", h.reason) for h in known):
            return False
        if self._governance.held >= HELD_MAX:
            raise Exhausted(f"{HELD_MAX} servers and tools are disabled already; enable some, or forbid by a policy")
        self._room(Kind.QUARANTINE, server)
        others = [h for h in known if (h.tool, h.owner) != (entry.tool, entry.owner)]
        signed = entry.model_copy(update={"by": by[:BY_CHARACTERS_MAX], "at": int(self._wall_s())})
        body = _held({"held": [h.model_dump(mode="json") for h in (*others, signed)]})
        return self._put(record_of(Kind.QUARANTINE, server, body))

    def _release(self, server: str, data: Mapping[str, Any]) -> bool:
        (entry,) = _held({"held": [dict(data)]}).held
        known = self._entries(server)
        rest = tuple(h for h in known if (h.tool, h.owner) != (entry.tool, entry.owner))
        if len(rest) == len(known):
            return False
        if not rest:
            return self._governance.lay_down([], [RecordKey(Kind.QUARANTINE, server)])
        return self._put(record_of(Kind.QUARANTINE, server, HeldBody(held=rest)))

    # ---- within ---------------------------------------------------------------------------------

    def _own(self, kind: Kind, record_id: str) -> object:
        record = self._governance.own().get(RecordKey(kind, record_id))
        return None if record is None else body_of(kind, record.data())

    def _entries(self, server: str) -> tuple[HeldEntry, ...]:
        known = self._own(Kind.QUARANTINE, server)
        return known.held if isinstance(known, HeldBody) else ()

    def _signed(self, body: Any, by: str) -> Any:
        return body.model_copy(update={"by": by[:BY_CHARACTERS_MAX], "at": int(self._wall_s())})

    def _put(self, record: Record) -> bool:
        return self._governance.lay_down([record], [])

    def _room(self, kind: Kind, record_id: str) -> None:
        own = self._governance.own()
        if RecordKey(kind, record_id) not in own and sum(k.kind is kind for k in own) >= MOST[kind]:
            raise Exhausted(f"{MOST[kind]} records of kind {kind} are there already, which is the most; remove some")


def _held(data: Mapping[str, Any]) -> HeldBody:
    body = body_of(Kind.QUARANTINE, data)
    assert isinstance(body, HeldBody)  # noqa: S101 - by its kind
    return body


def changeable(kind: str) -> Kind:
    """Raises `Invalid` for a kind that nobody lays down here."""
    if kind not in BODIES:
        raise Invalid(f"'kind' is {kind[:40]!r}; it must be one of {', '.join(BODIES)}")
    return Kind(kind)
