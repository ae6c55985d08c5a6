"""What a server lists only for clients that can do something: looked up once, in a session that ends at once.

Servers of before 2026-07-28 may offer a tool only to clients that declare sampling, say. The main session declares
nothing, so what the mesh lists would lack it. The survey costs a second start of the server, so it waits until the
node has settled, and one server is surveyed at a time. Whether it speaks 2026-07-28 is learnt along with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from node.upstreams.connection import Connection
from node.upstreams.ending import to_the_end
from node.upstreams.era import Transport
from node.upstreams.listing import CAPABILITIES, LISTS, Items
from node.upstreams.spec import UpstreamSpec
from node.upstreams.wire import logger
from proto.errors import MeshError

AFTER_S = 10.0
"""After the server came up."""

EVERYTHING: dict[str, Any] = {
    "roots": {"listChanged": True},
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
}
"""What it declares. Whatever the server asks on the strength of it is answered with an error."""


class Survey:
    """Of one server. `turn` is held while one runs. `learn` settles which eras it speaks, which may cost a start too;
    `found` hears of the lists as a capable client sees them."""

    def __init__(
        self,
        spec: UpstreamSpec,
        turn: asyncio.Lock,
        learn: Callable[[], Awaitable[None]],
        found: Callable[[dict[str, Items]], None],
    ) -> None:
        self._spec = spec
        self._turn = turn
        self._learn = learn
        self._found = found
        self._surveyed: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, server_info: dict[str, Any], transport: Transport) -> None:
        """Once for each version of the server; a survey that failed is tried again with the server's next start."""
        wanted = self._spec.survey and self._spec.sessions_max > 0 and server_info != self._surveyed
        if wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(server_info, transport), name=f"survey of {self._spec.name}")

    async def end(self) -> None:
        """Nothing of it is left when this returns."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self, server_info: dict[str, Any], transport: Transport) -> None:
        await asyncio.sleep(AFTER_S)
        async with self._turn:
            await self._learn()
            connection = Connection(self._spec, transport, _nothing, capabilities=EVERYTHING)
            try:
                async with asyncio.timeout(self._spec.start_timeout_s):
                    await connection.open()
                    lists = await connection.lists(CAPABILITIES)
            except (MeshError, TimeoutError) as e:
                logger.info("server %s: what it lists for capable clients is not known: %s", self._spec.name, e)
                return
            finally:
                await to_the_end(connection.close("surveyed"))
        self._surveyed = server_info
        self._found(lists)


def merged(field: str, plain: Items, capable: Mapping[str, Items]) -> Items:
    """A list, by its field of `Offer`, with what capable clients see beyond it. Of one name, the plain entry counts."""
    name = LISTS[field].name
    known = {item[name] for item in plain}
    more = tuple(item for item in capable.get(field, ()) if item[name] not in known)
    return plain + more if more else plain


def _nothing(_kind: str) -> None:
    """It is over too soon to follow changes."""
