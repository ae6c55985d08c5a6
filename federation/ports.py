"""What the federation needs from outside: peers' addresses, a place to keep views, someone who listens and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from federation.events import Liveness, Save
from proto.calls import Answer, Call, Exchange
from proto.names import NodeId
from proto.records import Record, RecordKey, Version

AGAIN_S = 240.0
"""An address that still stands is found again after so long at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """A hint: some node may answer at `address` ("host:port"). `claimed` is proved, or refuted, by TLS."""

    address: str
    claimed: NodeId | None = None


class Discovery(Protocol):
    """A way to find peers. What it no longer finds is not removed: the stream decides who is there."""

    async def run(self, found: Callable[[Found], None]) -> None:
        """Until cancelled, call `found` for each address, again whenever it may have changed, and every
        `AGAIN_S` or sooner for as long as it stands: who is not found and not met is forgotten."""

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        """Let others find this node at `address`. Raises `Unavailable`; the node runs on without it."""

    async def withdraw(self) -> None:
        """Undo `announce`; harmless without one."""

    @property
    def problem(self) -> str:
        """Why others may not find this node, or it not them, for operators; empty if all is well."""


@dataclass(frozen=True, slots=True)
class SavedView:
    """A view as it was saved. `heard_ms` is wall time (unix ms): when its owner was last heard."""

    owner: NodeId
    version: Version
    instance: bytes
    loaded: bool
    heard_ms: int
    records: Mapping[RecordKey, Record] = field(default_factory=dict)


class ViewStore(Protocol):
    """Durable state of the federation. Every method is one transaction and may block for milliseconds.

    The driver calls `open`, `begin_epoch`, `raise_epoch` and `close` on the loop (rare, or at start) and the
    rest in a worker thread, perhaps at the same time. All raise `Unavailable` if the disk fails.
    """

    def open(self) -> None:
        """Raises `Unavailable` if another process holds it, `Invalid` if a newer release wrote it."""

    def begin_epoch(self, wall_ms: int, instance: bytes) -> int:
        """The epoch of this process life, see `epochs.first`, saved before it is returned."""

    def raise_epoch(self, epoch: int) -> None:
        """Save a higher epoch; a lower one is ignored."""

    def views(self) -> Sequence[SavedView]: ...

    def save(self, changes: Mapping[NodeId, Save], heard_ms: int) -> None:
        """Cursor and records of each owner named, all in one transaction."""

    def heard(self, owners: Sequence[NodeId], heard_ms: int) -> None:
        """Nothing changed, but these owners were heard. Owners without a saved view are ignored."""

    def forget(self, owner: NodeId) -> None: ...

    def close(self) -> None: ...


class ViewListener(Protocol):
    """Told of every change in what the mesh offers, on the loop. Must not block or raise."""

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None: ...

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        """How the owner fares; not `listed`: its tools leave listings, but are kept for its return."""


class Governor(Protocol):
    """Told what authorities lay down, on the loop, whole and before they are told that it has arrived. Must not raise;
    a change may be written to disk meanwhile.
    """

    def role(self, node: NodeId, *, authority: bool) -> None:
        """A stream to this node has opened, whose certificate carries the role or does not."""

    def governs(
        self, authority: NodeId, records: Sequence[Record], refused: Mapping[RecordKey, str], *, whole: bool
    ) -> None:
        """All that it lays down, as in `events.Governs`."""

    def heard(self, authorities: Sequence[NodeId]) -> None:
        """Each second: what these lay down is known here as it is now."""

    def left(self, node: NodeId) -> None:
        """It said goodbye for good."""


class Ungoverned:
    """The twin of a `Governor` for a mesh that is not governed."""

    def role(self, node: NodeId, *, authority: bool) -> None:
        return

    def governs(
        self, authority: NodeId, records: Sequence[Record], refused: Mapping[RecordKey, str], *, whole: bool
    ) -> None:
        return

    def heard(self, authorities: Sequence[NodeId]) -> None:
        return

    def left(self, node: NodeId) -> None:
        return


Answerer = Callable[[Call, Exchange, NodeId], Awaitable[Answer]]
"""Runs a call for a peer (the NodeId that TLS proved): what `target.call` does at the owner's side."""
