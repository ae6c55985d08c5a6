"""What is in force on this node: a `node.guard.governed.Governance`, fed by the federation and by operators here.

    federation --governs, role, heard, left--> copies of authorities --union--> Governed --> guard, doors, ...
    operators  --lay_down--------------------> this node's own        /

Everything runs on the loop. A change is on disk before it is in force, and in force before an authority is told that
it has arrived. A disk that fails holds nothing up: it is told, and what came is in force until the restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from federation.clock import Clock, SystemClock
from node.governance.copies import STORE_FIELD, Copy, said, store_of
from node.governance.store import GovernanceStore
from node.governance.union import unite
from node.guard.governed import EMPTY, Governed, Listener
from proto.errors import Conflict, MeshError, Unknown
from proto.names import NodeId
from proto.records import Record, RecordKey

log = logging.getLogger("toolmesh.governance")

AGE_S = 86_400
REVIEW_S = 1.0
NOTE_MS = 60_000
"""How often it is written to disk that an authority was heard; after a restart it seems older by so much at most."""

Publish = Callable[[Sequence[Record], Sequence[RecordKey]], None]


class MeshGovernance:
    """`writes`: this node may lay down rules, as an authority or because it runs alone. Authorities that were not heard
    for `age_s` seconds no longer count for what they grant, nor do those named in `expected` that never were."""

    def __init__(
        self,
        me: NodeId,
        store: GovernanceStore,
        *,
        writes: bool,
        age_s: float = AGE_S,
        expected: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self.me = me
        self.writes = writes
        self.age_s = age_s
        self.publish: Publish = self._to_nobody
        """How the mesh hears of this node's own records."""
        self.problems: tuple[str, ...] = ()
        self.disk_problem = ""
        self._store = store
        self._expected = frozenset(expected) - {me.name}
        self._clock = clock or SystemClock()
        self._copies: dict[NodeId, Copy] = {}
        self._fresh: dict[NodeId, bool] = {}
        self._state = EMPTY
        self._listeners: list[Listener] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"MeshGovernance({self._state!r})"

    @property
    def state(self) -> Governed:
        return self._state

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    @property
    def node_field(self) -> dict[str, str]:
        """What belongs into this node's record, so that others notice should it lose its store. Once open."""
        return {STORE_FIELD: self._store.identity} if self.writes else {}

    # ---- life -----------------------------------------------------------------------------------

    def open(self) -> None:
        """What was in force is in force again. Raises `Unavailable` if the disk cannot tell what that was."""
        self._store.open()
        now_ms, wall_ms = self._clock.now_ms(), self._clock.wall_ms()
        for saved in self._store.load():
            self._copies[saved.authority] = Copy.restored(saved, now_ms, wall_ms)
        if self.writes or self.me in self._copies:
            self._own().role = self.writes
        self._renew()
        self._timer = asyncio.get_running_loop().call_later(REVIEW_S, self._tick)

    def announce(self) -> None:
        """Tell the mesh what this node has laid down."""
        if self.writes:
            self.publish(tuple(self._own().records.values()), ())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for copy in self._copies.values():
            if copy.live:
                self._note(copy)
        self._store.close()

    def _tick(self) -> None:
        self.review()
        self._timer = asyncio.get_running_loop().call_later(REVIEW_S, self._tick)

    def review(self) -> None:
        """Time has passed: what is too old by now ceases to count."""
        if any(self._is_fresh(copy) != self._fresh.get(copy.authority) for copy in self._copies.values()):
            self._renew()

    # ---- from the federation (`federation.ports.Governor`) ----------------------------------------

    def role(self, node: NodeId, *, authority: bool) -> None:
        copy = self._copies.get(node)
        if copy is not None and node != self.me and copy.role != authority:
            copy.role = authority
            log.warning("%s %s", node.name, "is an authority again" if authority else "is no authority any longer")
            self._note(copy)
            self._renew()

    def governs(
        self, authority: NodeId, records: Sequence[Record], refused: Mapping[RecordKey, str], *, whole: bool
    ) -> None:
        now_ms = self._clock.now_ms()
        copy = self._copies.get(authority) or Copy(authority, True, now_ms)
        before = copy.store, copy.anew and copy.anew.store
        puts, deletes = copy.difference(said(records, refused), store_of(records), whole=whole)
        known = authority in self._copies and (copy.store, copy.anew and copy.anew.store) == before
        if known and copy.role and not puts and not deletes:
            self._hear(copy)
            return
        copy.role, copy.live, copy.heard_ms, copy.noted_ms = True, True, now_ms, now_ms
        self._write(lambda: self._store.change(copy.saved(self._clock.wall_ms()), puts, deletes))
        copy.take(puts, deletes, refused)
        self._copies[authority] = copy
        self._renew()

    def heard(self, authorities: Sequence[NodeId]) -> None:
        for copy in self._copies.values():
            if copy.authority in authorities:
                self._hear(copy)
            elif copy.live:
                copy.live = False
                self._note(copy)

    def left(self, node: NodeId) -> None:
        if node in self._copies and node != self.me:
            log.warning("%s has left the mesh: what it laid down is forgotten", node.name)
            self._drop(node)

    def _hear(self, copy: Copy) -> None:
        now_ms = self._clock.now_ms()
        copy.live, copy.heard_ms = True, now_ms
        if now_ms - copy.noted_ms >= NOTE_MS:
            self._note(copy)
        if not self._fresh.get(copy.authority):
            self._renew()

    # ---- from operators ---------------------------------------------------------------------------

    def own(self) -> Mapping[RecordKey, Record]:
        """What this node has laid down itself."""
        return self._own().records

    @property
    def held(self) -> int:
        """How many servers and tools this node has disabled."""
        return sum(len(item) for item in self._own().items.values() if isinstance(item, tuple))

    def lay_down(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> bool:
        """On disk, then in force here, then on its way. Whether anything changed. For a node that `writes`.

        Raises `Unavailable` if it cannot be written: then nothing has changed.
        """
        copy = self._own()
        puts = [r for r in puts if (held := copy.records.get(r.key)) is None or held.digest != r.digest]
        deletes = [key for key in deletes if key in copy.records]
        if not puts and not deletes:
            return False
        self._store.change(copy.saved(self._clock.wall_ms()), puts, deletes)
        copy.take(puts, deletes)
        self._renew()
        self.publish(puts, deletes)
        return True

    def forget(self, name: str) -> None:
        """What an authority laid down that is gone for good, or, of one that lost its store, had laid down before.

        Raises `Unknown`, or `Conflict` if it governs still.
        """
        copy = next((c for c in self._copies.values() if c.authority.name == name), None)
        if copy is None:
            raise Unknown(f"nothing is held of an authority {name!r}")
        if copy.anew is not None:
            log.warning("what %s laid down before it lost its store is forgotten, as told", name)
            puts, deletes = copy.begin_anew()
            self._write(lambda: self._store.change(copy.saved(self._clock.wall_ms()), puts, deletes))
            copy.take(puts, deletes)
            self._renew()
            return
        if copy.role and (copy.live or copy.authority == self.me):
            raise Conflict(
                f"{name} governs and is there: take it out with 'toolmesh leave', or give it a new certificate"
            )
        log.warning("what %s laid down is forgotten, as told", name)
        self._drop(copy.authority)

    # ---- for operators' eyes ------------------------------------------------------------------------

    def copies(self) -> tuple[Copy, ...]:
        """By name; for reading."""
        return tuple(sorted(self._copies.values(), key=lambda c: c.authority))

    def age_ms(self, copy: Copy) -> int:
        """Since the authority was heard; 0 of this node."""
        return 0 if copy.authority == self.me else max(0, self._clock.now_ms() - copy.heard_ms)

    def _to_nobody(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        return

    # ---- within -------------------------------------------------------------------------------------

    def _own(self) -> Copy:
        copy = self._copies.get(self.me)
        if copy is None:
            copy = self._copies[self.me] = Copy(self.me, self.writes, self._clock.now_ms())
        return copy

    def _is_fresh(self, copy: Copy) -> bool:
        return self.age_ms(copy) <= self.age_s * 1000

    def _drop(self, node: NodeId) -> None:
        del self._copies[node]
        self._fresh.pop(node, None)
        self._write(lambda: self._store.forget(node))
        self._renew()

    def _note(self, copy: Copy) -> None:
        now_ms = copy.noted_ms = self._clock.now_ms()
        heard_ms = self._clock.wall_ms() - (now_ms - copy.heard_ms)
        self._write(lambda: self._store.met(copy.authority, role=copy.role, heard_ms=heard_ms))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except MeshError as e:
            if not self.disk_problem:
                log.error("what authorities say cannot be kept, and will be asked for after a restart: %s", e.message)
            self.disk_problem = e.message
        else:
            self.disk_problem = ""

    def _renew(self) -> None:
        self._fresh = {copy.authority: self._is_fresh(copy) for copy in self._copies.values()}
        known = {copy.authority.name for copy in self._copies.values()}
        sides = [copy.side(fresh=self._fresh[copy.authority]) for copy in self.copies()]
        state, problems = unite(sides, self._state.version, sorted(self._expected - known))
        problems = (*problems, *(_lost(copy) for copy in self.copies() if copy.anew is not None))
        for problem in problems:
            if problem not in self.problems:
                log.error("%s", problem)
        self.problems = problems
        if state == self._state:
            return
        self._state = replace(state, version=self._state.version + 1)
        for listener in self._listeners:
            try:
                listener(self._state)
            except Exception:
                log.exception("what follows from %r failed", self._state)


def _lost(copy: Copy) -> str:
    name = copy.authority.name
    return (
        f"{name} has lost what it laid down (its governance.db is another one): all of it stays in force. Bring the "
        f"file back, or lay it all down again there and then say 'toolmesh governance --forget {name}' at every node"
    )
