"""An asyncio client of etcd's v3 API, as small as discovery allows: list, create, replace, lease, watch.

    cluster   members, failover, deadlines, login          errors   etcd's words → errors of this house
    watch     changes since a revision, resumed            client   the calls, typed

Each call raises `Unavailable` (nobody answers), `Unauthenticated`, `Forbidden`, `Exhausted` or `Invalid`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from types import TracebackType

from federation.etcd.cluster import Cluster, Method
from federation.etcd.pairs import Change, Pair, pair_of, range_end
from federation.etcd.settings import EtcdSettings
from federation.etcd.watch import changes
from proto import etcd_pb2 as pb
from proto.errors import Unknown

_RANGE: Method[pb.RangeRequest, pb.RangeResponse] = Method("/etcdserverpb.KV/Range", pb.RangeResponse.FromString)
_TXN: Method[pb.TxnRequest, pb.TxnResponse] = Method("/etcdserverpb.KV/Txn", pb.TxnResponse.FromString)
_GRANT: Method[pb.LeaseGrantRequest, pb.LeaseGrantResponse] = Method(
    "/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse.FromString
)
_REVOKE: Method[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse] = Method(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse.FromString
)
_KEEP_ALIVE: Method[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse] = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse.FromString, stream=True
)


@dataclass(frozen=True, slots=True)
class Listing:
    """What lay under a prefix at `revision`: watch from the next one and nothing is missed. `more`: it was cut."""

    revision: int
    pairs: Sequence[Pair]
    more: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """What is put under it goes when nobody keeps it alive for `ttl_s` seconds (as granted)."""

    id: int
    ttl_s: int

    def __str__(self) -> str:
        return f"{self.id:x}"  # as etcdctl writes it


class EtcdClient:
    """A context: `async with EtcdClient(settings) as etcd`. Connects when it is first asked."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._cluster = Cluster(settings)

    async def __aenter__(self) -> EtcdClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._cluster.close()

    async def list(self, prefix: bytes, limit: int) -> Listing:
        """At most `limit` pairs in the order of their keys, as the majority of the cluster knows them."""
        request = pb.RangeRequest(key=prefix, range_end=range_end(prefix), limit=limit)
        answer = await self._cluster.call(_RANGE, request)
        return Listing(answer.header.revision, tuple(map(pair_of, answer.kvs)), answer.more)

    async def create(self, key: bytes, value: bytes, lease: Lease) -> Pair | None:
        """Put it only if there is no such key: None if it was put, otherwise what is there.

        After `Unavailable` it may have been put all the same; asking again tells.
        """
        absent = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=key, create_revision=0)
        look = pb.RequestOp(request_range=pb.RangeRequest(key=key))
        request = pb.TxnRequest(compare=[absent], success=[_put(key, value, lease)], failure=[look])
        answer = await self._cluster.call(_TXN, request, repeatable=False)
        return None if answer.succeeded else pair_of(answer.responses[0].response_range.kvs[0])

    async def replace(self, old: Pair, value: bytes, lease: Lease) -> bool:
        """Put it in the place of `old`, under another lease. False if `old` is not what is there any more."""
        same = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=old.key, mod_revision=old.mod_revision)
        request = pb.TxnRequest(compare=[same], success=[_put(old.key, value, lease)])
        return (await self._cluster.call(_TXN, request, repeatable=False)).succeeded

    async def grant(self, ttl_s: int) -> Lease:
        """A lease; one whose answer is lost runs out by itself."""
        answer = await self._cluster.call(_GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease: Lease) -> None:
        """Let it run anew from now. Raises `Unknown` if it has ended, and with it what was put under it."""
        answer = await self._cluster.call(_KEEP_ALIVE, pb.LeaseKeepAliveRequest(ID=lease.id))
        if answer.TTL <= 0:
            raise Unknown(f"lease {lease} has ended")

    async def revoke(self, lease: Lease) -> None:
        """End it at once. Raises `Unknown` if it has ended already."""
        await self._cluster.call(_REVOKE, pb.LeaseRevokeRequest(ID=lease.id))

    def watch(self, prefix: bytes, revision: int) -> AsyncGenerator[Sequence[Change], None]:
        """See `watch.changes`; close it (`contextlib.aclosing`)."""
        return changes(self._cluster, prefix, revision)

    @property
    def problem(self) -> str:
        """Why no member answers; empty if one does."""
        return self._cluster.problem

    def __repr__(self) -> str:
        return f"EtcdClient({self._cluster!r})"


def _put(key: bytes, value: bytes, lease: Lease) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease.id))
