"""The yardstick of a hop: a bare gRPC stream over mutual TLS that answers each frame with one.

`python -m bench.echo PORT CA CERT KEY`
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import orjson
import uvloop

from federation.tls import MeshTls
from proto import mesh_pb2 as pb
from proto.mesh_pb2_grpc import MeshServicer, MeshStub, add_MeshServicer_to_server


class Echo(MeshServicer):
    async def Forward(self, request_iterator: AsyncIterator[pb.CallUp], context: Any) -> AsyncIterator[pb.CallDown]:  # noqa: N802
        async for frame in request_iterator:
            yield pb.CallDown(call_id=frame.call_id, result=pb.Result(answer=frame.open.params))


@asynccontextmanager
async def bare_stream(port: int, tls: MeshTls, calls: int) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Gives a function that measures the p50 of one frame there and one back, in milliseconds."""
    options = tls.channel_options(tls.identity())
    body = orjson.dumps({"name": "echo", "arguments": {"text": "x" * 200}})
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", tls.channel_credentials(), options=options) as channel:
        await channel.channel_ready()
        stream = MeshStub(channel).Forward()

        async def measure() -> float:
            took = []
            for i in range(calls):
                began = time.perf_counter()
                await stream.write(pb.CallUp(call_id=str(i), open=pb.Open(server="bench", params=body)))
                await stream.read()
                took.append((time.perf_counter() - began) * 1e3)
            return statistics.median(took)

        yield measure
        stream.cancel()


async def main() -> None:
    tls = MeshTls.load(*(Path(a) for a in sys.argv[2:5]))
    server = grpc.aio.server(options=tls.server_options())
    add_MeshServicer_to_server(Echo(), server)
    server.add_secure_port(f"127.0.0.1:{sys.argv[1]}", tls.server_credentials())
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
