"""Peers by etcd: every node of a mesh has an entry there, under a lease, and watches those of the others.

What leaves etcd is not forgotten: the stream to a peer decides whether it is there. So is etcd itself dispensable: a
node starts and serves without it, and registers once it answers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import aclosing, suppress

from federation.discovery.entries import Entry, folder, key_of, node_of, read_entry, shown
from federation.discovery.registration import Registration
from federation.etcd.client import EtcdClient
from federation.etcd.errors import Compacted
from federation.etcd.pairs import Pair
from federation.etcd.pauses import Pauses, jittered
from federation.etcd.settings import EtcdSettings
from federation.ports import Found
from federation.tls import split_address
from proto.errors import Invalid, MeshError, Unavailable
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.discovery")

RELIST_S = 60.0
"""A watch lives half as long at least, so long at most; then everything is listed anew. That mends what no watch
can tell, such as a store that was put back to an earlier state."""
NODES_MAX = 1_000
SKIPPED_MAX = 256
"""Complaints about entries: one line each, and none beyond these."""


class EtcdDiscovery:
    """Finds and announces nodes of `mesh` in one etcd cluster, below `prefix` (empty, or `/some/path`).

    `announce` returns at once and takes effect while `run` runs. `lease_s`: how long an entry outlives its node.
    """

    def __init__(
        self,
        mesh: str,
        settings: EtcdSettings,
        *,
        prefix: str = "",
        lease_s: int = 15,
        relist_s: float = RELIST_S,
        software: str = "",
    ) -> None:
        self._mesh = mesh
        self._settings = settings
        self._folder = folder(prefix, mesh)
        self._lease_s = lease_s
        self._relist_s = relist_s
        self._software = software
        self._own: Registration | None = None
        self._running: tuple[EtcdClient, asyncio.TaskGroup] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._skipped: set[tuple[bytes, str]] = set()
        self._problem = ""

    async def run(self, found: Callable[[Found], None]) -> None:
        """Until cancelled. What etcd refuses is logged and tried again."""
        async with EtcdClient(self._settings) as etcd, asyncio.TaskGroup() as tasks:
            self._running = etcd, tasks
            try:
                self._register()
                await self._follow(etcd, found)
            finally:
                self._running = None

    async def announce(self, me: NodeId, address: str, mesh: str) -> None:
        """Register `address` until `withdraw`. Raises `Invalid` for a malformed address or another mesh."""
        if mesh != self._mesh:
            raise Invalid(f"mesh {mesh!r} is not {self._mesh!r}, which this discovery is for")
        split_address(address)
        await self.withdraw()
        entry = Entry(address, secrets.token_hex(16), self._software)
        self._own = Registration(me, key_of(self._folder, me), entry, self._lease_s)
        self._register()

    async def withdraw(self) -> None:
        """Revoke the lease, if etcd answers within two seconds; otherwise it runs out."""
        self._own, keeping, self._keeping = None, self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait({keeping})

    @property
    def problem(self) -> str:
        """Why others may not find this node, or it not them; empty if all is well."""
        if self._running is not None and (silent := self._running[0].problem):
            return silent
        return self._problem or (self._own.problem if self._own is not None else "")

    def _register(self) -> None:
        if self._own is not None and self._running is not None:
            etcd, tasks = self._running
            self._keeping = tasks.create_task(self._own.keep(etcd), name=f"register {self._own.node} in etcd")

    # ---- others ---------------------------------------------------------------------------------

    async def _follow(self, etcd: EtcdClient, found: Callable[[Found], None]) -> None:
        pauses = Pauses(longest_s=30.0)
        while True:
            try:
                revision = await self._list(etcd, found)
                pauses.reset()
                with suppress(TimeoutError):
                    async with asyncio.timeout(jittered(self._relist_s)):
                        await self._watch(etcd, revision + 1, found)
            except Compacted as e:
                log.info("%s; everything is listed again", e.message)
            except Unavailable:
                pass  # the client has said so
            except MeshError as e:
                if e.message != self._problem:
                    log.warning("peers cannot be read from etcd: %s", e.message)
                self._problem = e.message
            else:
                continue
            await pauses.wait()

    async def _list(self, etcd: EtcdClient, found: Callable[[Found], None]) -> int:
        """Returns the revision that the list is of."""
        listing = await etcd.list(self._folder, NODES_MAX)
        self._problem = ""
        if listing.more:
            log.warning("etcd lists more than %d nodes of mesh %s; the rest is not looked at", NODES_MAX, self._mesh)
        for pair in listing.pairs:
            self._look_at(pair, found)
        if self._own is not None and self._own.key not in (pair.key for pair in listing.pairs):
            self._own.doubt(None)
        return listing.revision

    async def _watch(self, etcd: EtcdClient, revision: int, found: Callable[[Found], None]) -> None:
        async with aclosing(etcd.watch(self._folder, revision)) as batches:
            async for changes in batches:
                for change in changes:
                    if change.pair is not None:
                        self._look_at(change.pair, found)
                    elif self._own is not None and change.key == self._own.key:
                        self._own.doubt(None)
                    else:
                        log.debug("etcd no longer lists %s; its stream decides", shown(change.key))

    def _look_at(self, pair: Pair, found: Callable[[Found], None]) -> None:
        if self._own is not None and pair.key == self._own.key:
            self._own.doubt(pair.value)
            return
        try:
            node = node_of(self._folder, pair.key)
            entry = read_entry(pair.value)
            if self._own is not None and node.trust_domain != self._own.node.trust_domain:
                raise Invalid(f"it is of another trust domain than {self._own.node.trust_domain}")
        except Invalid as e:
            self._skip(pair.key, e.message)
        else:
            found(Found(entry.address, node))

    def _skip(self, key: bytes, why: str) -> None:
        if (key, why) not in self._skipped and len(self._skipped) < SKIPPED_MAX:
            self._skipped.add((key, why))
            log.warning("entry %s in etcd is not used: %s", shown(key), why)

    def __repr__(self) -> str:
        where = ", ".join(map(str, self._settings.endpoints))
        return f"EtcdDiscovery({self._mesh} at {where}, {self._own or 'nothing announced'})"
