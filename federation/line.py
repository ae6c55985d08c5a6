"""The connection to one peer for calls and questions: apart from its owner stream, so that bulk delays no beat."""

from __future__ import annotations

import logging

import grpc

from federation.asking import ForwardClient
from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId

log = logging.getLogger("toolmesh.federation.line")

WITNESS_S = 1.5


class Line:
    """One channel to `peer` at `address`, connected at its first use and again by gRPC itself."""

    def __init__(self, peer: NodeId, address: str, tls: MeshTls, me: str) -> None:
        self.peer = peer
        self.address = address
        self._channel = grpc.aio.secure_channel(address, tls.channel_credentials(), options=tls.channel_options(peer))
        self._stub = MeshStub(self._channel)
        self.target = ForwardClient(self._channel, me)

    def __repr__(self) -> str:
        return f"Line({self.peer} at {self.address}, {self.target.in_flight} calls)"

    async def hears(self, node: NodeId) -> bool | None:
        """Whether the peer hears `node`; None if it gives no answer in time."""
        try:
            reply = await self._stub.Witness(pb.WitnessRequest(node=node.uri), timeout=WITNESS_S)
        except grpc.aio.AioRpcError as e:
            log.info("%s gives no word on %s: %s", self.peer, node, e.details())
            return None
        return reply.heard

    async def close(self) -> None:
        await self.target.close()
        await self._channel.close()
