"""The yardstick of a hop: a bare gRPC stream over mutual TLS that answers each frame with one.

`python -m bench.echo PORT CA CERT KEY`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop

from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.mesh_pb2_grpc import MeshServicer, add_MeshServicer_to_server


class Echo(MeshServicer):
    async def Forward(self, request_iterator: AsyncIterator[pb.CallUp], context: Any) -> AsyncIterator[pb.CallDown]:  # noqa: N802
        async for frame in request_iterator:
            yield pb.CallDown(call_id=frame.call_id, result=pb.Result(answer=frame.open.params))


async def main() -> None:
    tls = MeshTls.load(*(Path(a) for a in sys.argv[2:5]))
    server = grpc.aio.server(options=tls.server_options())
    add_MeshServicer_to_server(Echo(), server)
    server.add_secure_port(f"127.0.0.1:{sys.argv[1]}", tls.server_credentials())
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
