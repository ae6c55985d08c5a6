"""Vectors for peers: bytes by digest, of which the federation knows no more than that. One request at a time is paced,
so that whoever fetches a whole mesh's takes no time from calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from proto import mesh_pb2 as pb
from proto.errors import Conflict, Exhausted, Invalid, Unavailable
from proto.names import NodeId

DIGESTS_MAX = 512
DIGEST_BYTES = 32
NAME_CHARS_MAX = 500
VECTOR_BYTES_MAX = 16 * 1024
CHUNK = 64
"""Vectors of one message: some 50 kB."""

PER_S = 4_000
"""Vectors lent in a second, to all peers together."""

WAITING_MAX = 32
PER_PEER = 2
"""Requests that wait or are being answered, in all and of one peer; more are refused."""

LEND_S = 5.0
"""For finding them."""


class Loan(NamedTuple):
    """Vectors by digest; `embedding`: the lender has texts to embed yet."""

    vectors: Mapping[bytes, bytes]
    embedding: bool = False


class Lender(Protocol):
    """Whoever has vectors."""

    async def lend(self, model: str, recipe: str, digests: Sequence[bytes]) -> Loan:
        """Those that are there. Raises `Conflict` if those here are of another model or recipe."""


class Lending:
    """The answering side of the rpc `Vectors`."""

    def __init__(self, lender: Lender | None, per_s: float = PER_S) -> None:
        self._lender = lender
        self._per_s = per_s
        self._turn = asyncio.Lock()
        self._free_s = 0.0
        self._waiting: Counter[NodeId] = Counter()

    async def answer(self, request: pb.VectorsRequest, peer: NodeId) -> AsyncIterator[pb.VectorsReply]:
        """Raises `Conflict` (nothing is lent here), `Invalid`, `Exhausted`, and what the lender raises."""
        if self._lender is None:
            raise Conflict("this node lends no vectors")
        _check(request)
        if self._waiting[peer] >= PER_PEER or self._waiting.total() >= WAITING_MAX:
            raise Exhausted("this node has enough requests for vectors already; ask later", retry_after_s=1)
        self._waiting[peer] += 1
        try:
            async with self._turn:
                loan = await self._lend(self._lender, request)
            each = [pb.VectorsReply.Vector(digest=d, float16_le=v) for d, v in loan.vectors.items()]
            for begin in range(0, max(1, len(each)), CHUNK):
                yield pb.VectorsReply(vectors=each[begin : begin + CHUNK], embedding=loan.embedding)
        finally:
            self._waiting[peer] -= 1
            if not self._waiting[peer]:
                del self._waiting[peer]

    async def _lend(self, lender: Lender, request: pb.VectorsRequest) -> Loan:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._free_s - loop.time())
        try:
            async with asyncio.timeout(LEND_S):
                loan = await lender.lend(request.model, request.recipe, tuple(request.digests))
        except TimeoutError:
            raise Unavailable(f"the vectors could not be found within {LEND_S:g} s") from None
        self._free_s = loop.time() + len(loan.vectors) / self._per_s
        return loan


def _check(request: pb.VectorsRequest) -> None:
    if len(request.digests) > DIGESTS_MAX:
        raise Invalid(f"{len(request.digests)} digests are asked for; at most {DIGESTS_MAX} at a time")
    if any(len(d) != DIGEST_BYTES for d in request.digests):
        raise Invalid(f"a digest has {DIGEST_BYTES} bytes")
    if len(request.model) > NAME_CHARS_MAX or len(request.recipe) > NAME_CHARS_MAX:
        raise Invalid(f"model and recipe have at most {NAME_CHARS_MAX} characters")
