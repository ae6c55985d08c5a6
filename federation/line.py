"""The connection to one peer for calls and questions: apart from its owner stream, so that bulk delays no beat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import grpc

from federation import borrowing
from federation.asking import ForwardClient
from federation.lending import Loan
from federation.tls import MeshTls
from federation.traffic import Traffic
from proto import mesh_pb2 as pb
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.line")

WITNESS_S = 1.5


class Line:
    """Calls to `peer` at `address`, and the two questions beside them. Connected at its first use.

    `address` may be changed: the next connection goes there, and calls that look for their owner find it there, while
    those on an open stream go on. `trouble(cause)` is told of each Forward stream that could not be opened or broke.
    """

    def __init__(
        self,
        peer: NodeId,
        address: str,
        tls: MeshTls,
        me: str,
        *,
        trouble: Callable[[str], None],
        traffic: Traffic,
    ) -> None:
        self.peer = peer
        self.address = address
        self._tls = tls
        self._traffic = traffic
        self._asking: tuple[str, grpc.aio.Channel] | None = None
        self.target = ForwardClient(self._dial, me, peer, trouble=trouble, traffic=traffic)

    def __repr__(self) -> str:
        return f"Line({self.peer} at {self.address}, {self.target.in_flight} calls)"

    def _dial(self) -> grpc.aio.Channel:
        options = self._tls.channel_options(self.peer)
        return grpc.aio.secure_channel(self.address, self._tls.channel_credentials(), options=options)

    async def hears(self, node: NodeId) -> bool | None:
        """Whether the peer hears `node`; None if it gives no answer in time, or does not know that node."""
        channel = self.target.channel or await self._asking_channel()
        try:
            reply = await MeshStub(channel).Witness(pb.WitnessRequest(node=node.uri), timeout=WITNESS_S)
        except grpc.aio.AioRpcError as e:
            log.info("%s gives no word on %s: %s", self.peer, node, e.details())
            return None
        return reply.heard if reply.known else None

    async def borrow(self, model: str, recipe: str, digests: Sequence[bytes], within_s: float) -> Loan:
        """Vectors that the peer has. Raises as `borrowing.borrow`."""
        channel = await self._asking_channel()
        return await borrowing.borrow(channel, model, recipe, digests, within_s, self._traffic)

    async def _asking_channel(self) -> grpc.aio.Channel:
        """Kept: whoever is asked once, because a peer died, is asked about the next one too."""
        if self._asking is not None and self._asking[0] != self.address:
            (_, stale), self._asking = self._asking, None
            await stale.close()
        self._asking = self._asking or (self.address, self._dial())
        return self._asking[1]

    async def close(self) -> None:
        await self.target.close()
        if self._asking is not None:
            await self._asking[1].close()
