"""Changes under a prefix since a revision, none missed and none twice, whatever becomes of the member that tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import grpc
import grpc.aio

from federation.etcd.cluster import Cluster, Member, Metadata
from federation.etcd.errors import cancelled_watch, meaning
from federation.etcd.pairs import Change, change_of, range_end
from federation.etcd.pauses import Pauses
from federation.etcd.settings import EtcdSettings
from proto import etcd_pb2 as pb
from proto.errors import Forbidden, Unauthenticated, Unavailable

_PATH = "/etcdserverpb.Watch/Watch"
_ALIVE = pb.WatchRequest(progress_request=pb.WatchProgressRequest())

_Stream = grpc.aio.StreamStreamCall[Any, pb.WatchResponse]


async def changes(cluster: Cluster, prefix: bytes, revision: int) -> AsyncGenerator[Sequence[Change], None]:
    """Batches of changes from `revision` on, in order; a broken watch is taken up where it ended, elsewhere if need be.

    Raises `Compacted` when those that come next are no longer kept, `Unauthenticated` or `Forbidden`.
    """
    pauses, refused = Pauses(), False
    while True:
        member, metadata = cluster.current, None
        create = pb.WatchCreateRequest(key=prefix, range_end=range_end(prefix), start_revision=revision)
        try:
            metadata = await cluster.log_in(member)
            async with aclosing(_responses(member, metadata, create, cluster.settings)) as responses:
                async for response in responses:
                    cluster.serves(member)
                    refused = False
                    if not response.created:  # a member that ends each watch as soon as it has begun is no relief
                        pauses.reset()
                    if response.events:
                        revision = response.events[-1].kv.mod_revision + 1
                        yield tuple(map(change_of, response.events))
        except Unavailable as e:
            cluster.leave(member, e.message)
        except (Unauthenticated, Forbidden):
            # A stale login; etcd 3.4 calls that forbidden where a watch begins.
            if refused or metadata is None or not cluster.log_out(metadata):
                raise
            refused = True
        await pauses.wait()


async def _responses(
    member: Member, metadata: Metadata, create: pb.WatchCreateRequest, settings: EtcdSettings
) -> AsyncGenerator[pb.WatchResponse, None]:
    """One stream to one member. It ends only by raising: a member that falls silent is `Unavailable` too."""
    call: _Stream = member.channel.stream_stream(_PATH, pb.WatchRequest.SerializeToString, pb.WatchResponse.FromString)(
        metadata=metadata
    )
    reading: asyncio.Task[object] | None = None
    try:
        await _write(call, pb.WatchRequest(create_request=create), settings.call_s)
        asked = True
        while True:
            # A task of its own, since to cancel a read is to cancel the stream.
            reading = asyncio.ensure_future(call.read())
            while not (await asyncio.wait({reading}, timeout=settings.call_s if asked else settings.quiet_s))[0]:
                if asked:
                    raise Unavailable(f"{member.at} has fallen silent")
                await _write(call, _ALIVE, settings.call_s)
                asked = True
            asked = False
            response = None if reading.cancelled() else reading.result()
            if not isinstance(response, pb.WatchResponse):
                raise Unavailable(f"{member.at} has ended the watch")
            if response.canceled:
                raise cancelled_watch(response.cancel_reason, response.compact_revision, member.at)
            yield response
    except grpc.aio.AioRpcError as e:
        raise meaning(e.code(), e.details() or "", member.at) from None
    finally:
        call.cancel()
        if reading is not None:
            await asyncio.gather(reading, return_exceptions=True)


async def _write(call: _Stream, request: pb.WatchRequest, within_s: float) -> None:
    # If the stream has ended or does not take it, reading tells why.
    with suppress(TimeoutError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
        async with asyncio.timeout(within_s):
            await call.write(request)
