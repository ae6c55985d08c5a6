"""Where operators ask for a change: it is made here, if this node may, or carried to the authorities that must make it.

A carried change is decided on again at the authority, for the same principal. What was laid down at several authorities
is removed at each of them. A change may be asked for twice, so that whoever is unsure of the first answer asks again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from node.audit.port import Audit
from node.governance.asked import Asked
from node.governance.changes import Changes
from node.governance.governance import MeshGovernance
from node.governance.tenancy import within
from node.guard.governed import Held, KeyRecord, PolicyRule
from node.ports import Caller, Carrier
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Conflict, Fault, Invalid, MeshError, Unavailable
from proto.names import NodeId
from proto.records import Kind, Principal, RecordKey

log = logging.getLogger("toolmesh.governance")

METHOD = "toolmesh/governance"
ASK_MS = 15_000
ARRIVE_S = 2.0
"""A verb waits so long for the other nodes to have a change in force, and then says who has not."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Other nodes, by name: a change is in force at `there`; `waiting` have not said so in time, `away` cannot be
    asked, and have it when they are back."""

    there: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    away: tuple[str, ...] = ()


class Mesh(Protocol):
    """What a desk asks of the federation; see `node.governance.reach`."""

    def authorities(self) -> Sequence[tuple[str, bool]]:
        """Other nodes that have the role: (name, can be asked now), by name."""

    async def arrived(self, within_s: float) -> Arrived:
        """Who has taken all that this node has published."""


Keeps = Callable[[Principal, str, PolicyRule | None], bool]
"""`(principal, name, policy)`: could it administer still, were that this node's policy of that name (None: none)?"""


def _whatever(*_: object) -> bool:
    return True


class Desk:
    """`administering` raises unless the principal may administer this node."""

    def __init__(
        self,
        governance: MeshGovernance,
        changes: Changes,
        nodes: Carrier,
        mesh: Mesh,
        administering: Callable[[Principal], None],
        audit: Audit,
        keeps: Keeps = _whatever,
    ) -> None:
        self._governance = governance
        self._changes = changes
        self._nodes = nodes
        self._mesh = mesh
        self._administering = administering
        self._audit = audit
        self._keeps = keeps
        nodes.handle(METHOD, self.answer)

    async def change(self, asked: Asked, principal: Principal) -> dict[str, Any]:
        """`{"changed", "authorities": [NAME], "in_force": [NODE], "waiting": [NODE], "away": [NODE]}`.

        Raises any `MeshError`: `Unavailable` where no authority can be reached, `Conflict` where there is none.
        """
        return await self._audited(asked, principal, lambda: self._placed(asked, principal))

    async def answer(self, call: Call, exchange: Exchange, peer: NodeId) -> Answer:
        """What another node carries here (`relaying.NodeHandler`). Raises any `MeshError`."""
        asked = Asked.parse(call.params)
        if not self._governance.writes:
            raise Unavailable(f"node {self._nodes.me!r} is no authority any longer; ask again")
        log.info("%s asks for %r of %r, by %s", call.principal.subject, asked.verb, asked.what, peer.name)
        return {"result": await self._audited(asked, call.principal, lambda: self._made(asked, call.principal))}

    # ---- where ----------------------------------------------------------------------------------

    async def _placed(self, asked: Asked, principal: Principal) -> dict[str, Any]:
        self._administering(principal)
        _not_ones_own(asked, principal)
        asked = self._within(asked, principal)
        places = self._holders(asked)
        if asked.do == "set" or not places:
            places = [self._writer(places)]
        answers, missed = [], []
        for place in places:
            try:
                answers.append(await self._at(place, asked, principal))
            except Unavailable as e:
                if len(places) == 1:
                    raise
                missed.append(f"{place} ({e.message})")
        if missed:
            raise Unavailable(
                f"{asked.verb} {asked.what!r} is done at {len(answers)} of {len(places)} authorities that have it, and "
                f"not at {', '.join(missed)}: there it stays as it was; ask again when they are back"
            )
        return {
            "changed": any(a["changed"] for a in answers),
            "authorities": places,
            **{k: sorted({name for a in answers for name in a[k]}) for k in ("in_force", "waiting", "away")},
        }

    def _writer(self, holders: Sequence[str]) -> str:
        """Who is to make a change: this node if it may, else an authority, best of all one that has it already."""
        if self._governance.writes:
            return self._nodes.me
        known = self._mesh.authorities()
        alive = [name for name, reachable in known if reachable]
        for name in (*(h for h in holders if h in alive), *alive):
            return name
        if known:
            names = ", ".join(name for name, _ in known)
            raise Unavailable(f"no authority can be reached now: {names}; ask again, or ask it at its own address")
        raise Conflict(
            "this mesh has no authority that this node has met: issue a certificate with 'toolmesh ca issue … --role "
            "authority' to one or several nodes"
        )

    def _holders(self, asked: Asked) -> list[str]:
        """Authorities that have laid it down and still may change it, this node first."""
        names = [c.authority.name for c in self._governance.copies() if c.role and _concerns(asked, c.items)]
        return sorted(names, key=lambda name: (name != self._nodes.me, name))

    async def _at(self, place: str, asked: Asked, principal: Principal) -> dict[str, Any]:
        if place == self._nodes.me:
            return await self._made(asked, principal)
        caller = Caller(principal=principal)
        answer = await self._nodes.carry(place, METHOD, asked.params, caller, _Silent(), budget_ms=ASK_MS)
        return _result(answer, place)

    # ---- here -----------------------------------------------------------------------------------

    async def _made(self, asked: Asked, principal: Principal) -> dict[str, Any]:
        self._administering(principal)
        asked = self._within(asked, principal)
        if asked.kind is Kind.POLICY:
            asked = self._not_locked_out(asked, principal)
        do = self._changes.set if asked.do == "set" else self._changes.remove
        changed = do(asked.kind, asked.id, asked.data, principal.subject)
        arrived = await self._mesh.arrived(ARRIVE_S)
        return {
            "changed": changed,
            "in_force": sorted((self._nodes.me, *arrived.there)),
            "waiting": sorted(arrived.waiting),
            "away": sorted(arrived.away),
        }

    def _not_locked_out(self, asked: Asked, principal: Principal) -> Asked:
        """The change itself, without what forces it. Raises `Conflict` where it takes from its own author the right to
        administer: whoever does that by mistake could not take it back."""
        data = {name: value for name, value in asked.data.items() if name != "force"}
        force = asked.data.get("force", False)
        if not isinstance(force, bool):
            raise Invalid("'force' must be true or false")
        text, mode = data.get("text"), data.get("mode", "enforce")
        policy = None
        if isinstance(text, str) and mode in ("enforce", "shadow"):
            policy = PolicyRule(asked.id, text, mode, self._nodes.me)
        if not force and not self._keeps(principal, asked.id, policy):
            raise Conflict(
                f"after this {asked.verb!r} you could not administer {self._nodes.me} any more, nor take it back; "
                "leave yourself the action 'administer', or say --force"
            )
        return replace(asked, data=data)

    def _within(self, asked: Asked, principal: Principal) -> Asked:
        copies = self._governance.copies()
        items = (item for copy in copies for item in copy.items.values()) if principal.tenant else ()
        return within(asked, principal, (item for item in items if isinstance(item, KeyRecord)))

    async def _audited(
        self, asked: Asked, principal: Principal, do: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        before = self._known(asked)
        try:
            answer = await do()
        except MeshError as e:
            self._audit.admin(principal, asked.verb, asked.what, e.kind, reason=e.message)
            raise
        except Exception:
            self._audit.admin(principal, asked.verb, asked.what, Fault.kind)
            raise
        self._audit.admin(principal, asked.verb, asked.what, before=before, after=dict(asked.data))
        return answer

    def _known(self, asked: Asked) -> dict[str, Any] | None:
        """What each authority has laid down under that name, as this node has heard; None: nothing."""
        key = RecordKey(asked.kind, asked.id)
        return {c.authority.name: c.records[key].data() for c in self._governance.copies() if key in c.records} or None


def _not_ones_own(asked: Asked, principal: Principal) -> None:
    """Raises `Conflict` where a credential would be revoked by its own holder: an operator's only one, for a slip of
    the hand, would leave nobody who could undo it."""
    # A revocation is set by `revoke` and follows from the removal of a key; to remove a revocation is to lift it.
    if (asked.do, asked.kind) not in (("set", Kind.REVOCATION), ("remove", Kind.KEY)):
        return
    credential = f"key/{asked.id}" if asked.kind is Kind.KEY else asked.id
    if credential in (principal.credential, f"subject/{principal.issuer}|{principal.subject}"):
        raise Conflict(
            f"{credential!r} is what you call with: you would lock yourself out; let another operator revoke it"
        )


def _concerns(asked: Asked, items: Mapping[RecordKey, object]) -> bool:
    item = items.get(RecordKey(asked.kind, asked.id))
    if asked.kind is not Kind.QUARANTINE or asked.do == "set" or not isinstance(item, tuple):
        return item is not None
    wanted = (asked.data.get("tool", ""), asked.data.get("owner", ""))
    return any(isinstance(h, Held) and (h.tool, h.owner) == wanted for h in item)


def _result(answer: Answer, place: str) -> dict[str, Any]:
    result = answer.get("result")
    if isinstance(result, dict) and isinstance(result.get("changed"), bool):
        lists = {k: result.get(k) for k in ("in_force", "waiting", "away")}
        if all(isinstance(v, list) and all(isinstance(n, str) for n in v) for v in lists.values()):
            return {"changed": result["changed"], **lists}
    raise Unavailable(f"authority {place} answered what cannot be read; ask again when it runs this release")


class _Silent:
    """A change has nothing to tell meanwhile, and asks nobody."""

    def event(self, notification: Notification) -> None:
        return

    async def request(self, request: Notification) -> Answer:
        raise Unavailable("a change of what governs asks no client")
