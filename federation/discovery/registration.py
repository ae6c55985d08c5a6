"""One node's own entry in etcd: put under a lease, kept alive, put again when it is lost, taken away at the end.

The entry is a fence against two holders of one node id. It is created only where there is none. A process takes over
an entry with its own address, once, at its start: that is its previous life, whose lease has not ended yet. Whatever
else stands there belongs to another holder, and so does an entry that replaces ours later on: that is a `Conflict`,
said loudly, and tried again until the other's lease has ended.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from federation.discovery.entries import Entry, read_entry, shown
from federation.etcd.client import EtcdClient, Lease
from federation.etcd.pairs import Pair
from federation.etcd.pauses import Pauses, jittered
from proto.errors import Conflict, Invalid, MeshError, Unavailable, Unknown
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.discovery")

KEEP_ALIVES = 3
"""In the life of a lease: two may fail."""
REFUSED_S = 30.0
"""Between attempts where etcd refuses us, at most: only an operator can mend that."""
WITHDRAW_S = 2.0
"""A lease that cannot be revoked within so long is left to run out."""


class Registration:
    """`entry` under `key` while `keep` runs. `doubt` is called by whoever sees the key change."""

    def __init__(self, node: NodeId, key: bytes, entry: Entry, lease_s: int) -> None:
        self.node = node
        self.key = key
        self.entry = entry
        self._value = entry.value()
        self._lease_s = lease_s
        self._lease: Lease | None = None
        self._held = False
        self._was_held = False
        self._doubted = asyncio.Event()
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the node is not registered now; empty if it is, or nothing went wrong yet."""
        return self._problem

    def doubt(self, value: bytes | None) -> None:
        """This is what stands under the key now (None: nothing). Looked into at once if it is not ours."""
        if value != self._value:
            self._doubted.set()

    async def keep(self, etcd: EtcdClient) -> None:
        """Until cancelled; the lease is revoked then. Failures are logged, once for each new one."""
        pauses, refused = Pauses(), Pauses(longest_s=REFUSED_S)
        try:
            while True:
                try:
                    await self._hold(etcd)
                except Conflict as e:
                    self._failed(e, logging.ERROR)
                except Unknown:
                    log.warning("the lease of %s has ended behind our back; registering again", self.node)
                    self._lease, self._held = None, False
                    await pauses.wait()
                    continue
                except Unavailable as e:
                    self._failed(e, logging.INFO)  # the client has warned
                    await pauses.wait()
                    continue
                except MeshError as e:
                    self._failed(e, logging.WARNING)
                    await refused.wait()
                    continue
                else:
                    self._problem = ""
                pauses.reset()
                refused.reset()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._keep_alive_s()):
                        await self._doubted.wait()
        finally:
            await self._let_go(etcd)

    async def _hold(self, etcd: EtcdClient) -> None:
        """A living lease, and our entry under it. Raises `Unknown` if the lease has ended."""
        if self._lease is None:
            self._lease = await etcd.grant(self._lease_s)
        else:
            await etcd.keep_alive(self._lease)
        if self._held and not self._doubted.is_set():
            return
        self._doubted.clear()
        self._held = False
        put = await self._claim(etcd, self._lease)
        news, self._held, self._was_held = put or not self._was_held, True, True
        if news:
            log.info("%s is registered in etcd at %s", self.node, self.entry.address)

    async def _claim(self, etcd: EtcdClient, lease: Lease) -> bool:
        """Put our entry under the lease; False if it was there. Raises `Conflict` if another's is."""
        holder = await etcd.create(self.key, self._value, lease)
        if holder is None:
            return True
        if holder.value == self._value and holder.lease == lease.id:
            return False  # its answer was lost, or the list that lacks it is older
        if not self._ours(holder):
            raise Conflict(self._rival(holder))
        if not await etcd.replace(holder, self._value, lease):
            raise Unavailable(f"the entry of {self.node} changed while it was taken over")
        return True

    def _ours(self, holder: Pair) -> bool:
        """Of this life (an answer was lost), or of the one before, which only a start can follow."""
        if holder.value == self._value:
            return True
        with suppress(Invalid):
            return not self._was_held and read_entry(holder.value).address == self.entry.address
        return False

    def _rival(self, holder: Pair) -> str:
        try:
            theirs = read_entry(holder.value)
        except Invalid as e:
            return (
                f"etcd holds something else under {shown(self.key)}: {e.message}; "
                f"if nobody needs it, remove it with 'etcdctl del'"
            )
        where = theirs.address if theirs.address != self.entry.address else "the same address"
        return (
            f"two processes hold the identity {self.node.uri}: another at {where}, and this one at "
            f"{self.entry.address}; stop one of them, or give it a name and a certificate of its own"
        )

    def _failed(self, error: MeshError, level: int) -> None:
        if error.message != self._problem:
            log.log(level, "%s is not registered in etcd: %s", self.node, error.message)
        self._problem = error.message

    def _keep_alive_s(self) -> float:
        ttl_s = self._lease.ttl_s if self._lease is not None else self._lease_s
        return jittered(ttl_s / KEEP_ALIVES)

    async def _let_go(self, etcd: EtcdClient) -> None:
        lease, self._lease, self._held = self._lease, None, False
        if lease is None:
            return
        try:
            async with asyncio.timeout(WITHDRAW_S):
                await etcd.revoke(lease)
        except (MeshError, TimeoutError) as e:
            log.info("the entry of %s is left to its lease: %s", self.node, e)

    def __repr__(self) -> str:
        state = f"under lease {self._lease}" if self._held else self._problem or "not yet"
        return f"Registration({self.node} at {self.entry.address}, {state})"
