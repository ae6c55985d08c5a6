"""The audit of a running node: what is told on the loop goes into a bounded queue, and from there to two threads.

    loop ─► waiting (entries) ─► scribe: digests, masks, chains, signs ─► rows ─► keeper: audit.db, then JSON lines

Nothing is lost unsaid. When the queue is full, or what waits for the disk has grown too large, `overflow` decides:
`mark` drops what comes, counts it by kind, and the next record says how much was lost, of what and when; `refuse` lets
no call begin (`ready`), while those that run already are recorded in a reserve. Acts of operators and what concerns the
node itself have that reserve in either case: a flood of calls does not push them out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from federation.alarms import Alarms, Raised
from federation.clock import SystemClock
from node.audit.bounds import AuditSettings
from node.audit.entries import AdminEntry, CallEntry, DecisionEntry, Entry, EventEntry, now_ms, rfc3339
from node.audit.jsonl import JsonlSink
from node.audit.keeper import TEND_S, Keeper, Retention
from node.audit.opening import open_log
from node.audit.rows import AuditStore
from node.audit.scribe import LINGER_S, Scribe
from node.audit.signing import Signer
from node.audit.signins import Signins
from node.operator.audited import AuditStatus
from node.ports import Resource
from proto.calls import Call
from proto.errors import Unavailable
from proto.names import NodeId
from proto.records import Decision, Principal

if TYPE_CHECKING:
    from node.ports import Ended

log = logging.getLogger("toolmesh.audit")

STOP_S = 5.0
"""A stop waits so long for the disk."""

_FLOODS = frozenset({"call", "decision", "signin"})
"""Kinds that callers make as many of as they like."""


class Recorder:
    """`Audit` of the node `me`. `epoch` tells its lives apart: each higher than the one before."""

    def __init__(
        self,
        me: NodeId,
        store: AuditStore,
        signer: Callable[[], Signer],
        settings: AuditSettings,
        *,
        linger_s: float = LINGER_S,
        tend_s: float = TEND_S,
    ) -> None:
        self._me = me
        self.store = store
        self._make_signer = signer
        self._settings = settings
        self._linger_s = linger_s
        self._tend_s = tend_s
        self._alarms = Alarms(SystemClock())
        self._signins = Signins(self._put)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._key_id = ""
        self.lost: dict[str, int] = {}
        self._untold: dict[str, int] = {}
        self._untold_since = 0
        self._problems: dict[str, str] = {}
        self._scribe: Scribe | None = None
        self._keeper: Keeper | None = None
        # What is told before the log is open is written first of all.
        self._early: list[Entry] = []

    def __repr__(self) -> str:
        return f"Recorder({self._scribe!r}, {sum(self.lost.values())} lost)"

    # ---- life ------------------------------------------------------------------------------------

    def start(self, **facts: Any) -> None:
        """Open the log and begin with a record that says after what it follows; `facts` go into it. On the loop.

        Raises `Unavailable` if the store cannot be opened, `Invalid` if a newer release wrote it or the key is unfit.
        """
        self._loop = asyncio.get_running_loop()
        signer = self._make_signer()
        self._key_id = signer.key_id
        opened = open_log(self.store, self._me)
        for part, why in opened.problems.items():
            self._trouble_here(part, why)
        s = self._settings
        scribe = Scribe(self._me, opened.epoch, opened.head, opened.at_ms, signer, s.bodies, linger_s=self._linger_s)
        keeper = Keeper(
            scribe.rows,
            self.store,
            Retention(s.keep_ms, s.keep_bytes),
            scribe.tell,
            self._trouble,
            self._wrote,
            tend_s=self._tend_s,
        )
        if s.jsonl is not None:
            j = s.jsonl
            keeper.sink = JsonlSink(j.directory, self._me.name, j.rotate_bytes, j.keep, keeper.removing)
        self._scribe, self._keeper = scribe, keeper
        more = {**facts, "mesh": self._me.trust_domain, "id": self._me.uri, "follows": opened.follows}
        scribe.tell(EventEntry(now_ms(), "system", "start", "; ".join(opened.problems.values()), more))
        for entry in self._early:
            scribe.tell(entry)
        self._early.clear()
        scribe.start()
        keeper.start(opened.head)

    def stop(self, reason: str = "") -> None:
        """Write and seal everything, within `STOP_S`. Blocks: for a thread. Idempotent."""
        scribe, keeper = self._scribe, self._keeper
        self._scribe = None
        if scribe is None or keeper is None:
            return
        self._signins.sweep(now_ms(), all_of_them=True)
        if overflow := self._overflow():
            scribe.tell(overflow)
        scribe.tell(EventEntry(now_ms(), "system", "stop", reason, {}))
        scribe.finish(STOP_S)
        if not keeper.finish(STOP_S):
            log.error("the audit's end could not be written: %d records are lost", len(scribe.rows))
        self.store.close()

    # ---- Audit -----------------------------------------------------------------------------------

    def ready(self) -> None:
        if self._settings.overflow == "refuse" and self._full(0):
            raise Unavailable(
                "this node takes no calls now, because it cannot record them (audit.overflow: refuse); try again later"
            )

    def call(self, call: Call, ended: Ended) -> None:
        self._put(CallEntry(call, ended))

    def decision(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        decision: Decision,
        *,
        call_id: str = "",
        shadow: str = "",
    ) -> None:
        self._put(DecisionEntry(now_ms(), principal, str(action), resource, decision, call_id, shadow))

    def signin(self, address: str, scheme: str, reason: str) -> None:
        self._signins.refused(address, scheme, reason)

    def admin(
        self,
        principal: Principal,
        verb: str,
        what: str,
        outcome: str = "ok",
        *,
        reason: str = "",
        before: Any = None,
        after: Any = None,
    ) -> None:
        self._put(AdminEntry(now_ms(), principal, verb, what, outcome, reason, before, after))

    def peer(self, node: str, event: str, *, reason: str = "", **facts: Any) -> None:
        self._put(EventEntry(now_ms(), "peer", event, reason, {"peer": node, **facts}))

    def system(self, event: str, *, reason: str = "", **facts: Any) -> None:
        self._put(EventEntry(now_ms(), "system", event, reason, facts))

    # ---- the queue -------------------------------------------------------------------------------

    def _full(self, reserve: int) -> bool:
        scribe = self._scribe
        if scribe is None:
            return False
        rows = scribe.rows
        return (
            len(scribe.waiting) + len(rows) >= self._settings.queue_records + reserve
            or rows.bytes >= self._settings.queue_bytes
        )

    def _put(self, entry: Entry) -> None:
        scribe = self._scribe
        if scribe is None:
            if self._keeper is None and len(self._early) < self._settings.queue_records:
                self._early.append(entry)
            return
        reserved = entry.kind not in _FLOODS or (entry.kind == "call" and self._settings.overflow == "refuse")
        if self._full(self._settings.reserve if reserved else 0):
            self._lose(entry.kind)
            return
        if self._untold and (overflow := self._overflow()):
            scribe.tell(overflow)
        scribe.tell(entry)

    def _lose(self, kind: str) -> None:
        if not self._untold:
            self._untold_since = now_ms()
            self._trouble_here("overflow", "records are being lost: the audit's disk is too slow, or fails")
        self.lost[kind] = self.lost.get(kind, 0) + 1
        self._untold[kind] = self._untold.get(kind, 0) + 1

    def _overflow(self) -> EventEntry | None:
        if not self._untold:
            return None
        lost, self._untold = self._untold, {}
        self._trouble_here("overflow", "")
        span = {"since": rfc3339(self._untold_since), "lost": lost}
        return EventEntry(now_ms(), "system", "overflow", "the audit's queue was full", span)

    # ---- what the threads say --------------------------------------------------------------------

    def _wrote(self) -> None:
        self._on_loop(self._tell_followers)

    def _trouble(self, part: str, why: str) -> None:
        if self._problems.get(part, "") != why:
            self._on_loop(self._trouble_here, part, why)

    def _on_loop(self, do: Callable[..., None], *given: Any) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(do, *given)
            except RuntimeError:
                # The loop has ended before these threads: nobody is left to be told.
                return

    def _trouble_here(self, part: str, why: str) -> None:
        if not why:
            if self._problems.pop(part, ""):
                log.info("the audit's %s works again", part)
            return
        self._problems[part] = why
        if self._alarms.note(self._me.uri, f"audit_{part}", why):
            log.error("the audit's %s: %s", part, why)

    def _tell_followers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        # A checkpoint is written a minute after anything else was: no count of refused sign-ins waits much longer.
        if self._scribe is not None:
            self._signins.tend()

    # ---- for operators ---------------------------------------------------------------------------

    async def written(self, timeout_s: float) -> None:
        """Until something has been written after this call, for a bounded time."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    @property
    def alarms(self) -> tuple[Raised, ...]:
        return self._alarms.latest()

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """(last record on the disk, entries and rows that wait, their bytes, unix ms of the last write; 0: none)."""
        scribe, keeper = self._scribe, self._keeper
        if keeper is None:
            return 0, len(self._early), 0, 0
        waiting, size = (len(scribe.waiting) + len(scribe.rows), scribe.rows.bytes) if scribe else (0, 0)
        return keeper.head.seq, waiting, size, keeper.last_write_ms

    @property
    def head(self) -> str:
        """SEQ:HASH of the last record on the disk; empty before the start."""
        return str(self._keeper.head) if self._keeper else ""

    @property
    def failing(self) -> bool:
        return bool(self._problems)

    def status(self) -> AuditStatus:
        """As of the last batch; asks no disk."""
        seq, queued, size, wrote_ms = self.counts
        first, last, held, _ = self._keeper.kept if self._keeper else (0, 0, 0, None)
        return {
            "node": self._me.name,
            "head": self.head,
            "signed_to": self._scribe.signed_to if self._scribe else seq,
            "key_id": self._key_id,
            "first": first,
            "records": last - first + 1 if first else 0,
            "bytes": held,
            "queued": queued,
            "queued_bytes": size,
            "lost": dict(self.lost),
            "last_write_at": rfc3339(wrote_ms) if wrote_ms else None,
            "overflow": self._settings.overflow,
            "problem": "; ".join(self._problems.values()),
        }
