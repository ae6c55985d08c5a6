"""The servers that this node hosts or connects: started, kept, published, and brought in at run time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from node.catalog import Catalog
from node.offers import difference, records_of
from node.upstreams.offer import Offer
from node.upstreams.spec import UpstreamSpec
from node.upstreams.upstream import Upstream
from proto.calls import Target
from proto.errors import Unavailable, Unknown
from proto.records import Record, RecordKey

log = logging.getLogger("toolmesh.hosting")

Publish = Callable[[Sequence[Record], Sequence[RecordKey]], None]


class Hosting:
    """Own upstreams by name. Every change of what they offer goes to the catalogue and, by `publish`, to the mesh."""

    def __init__(self, catalog: Catalog, publish: Publish) -> None:
        self._catalog = catalog
        self._publish = publish
        self._upstreams: dict[str, Upstream] = {}
        self._published: dict[str, dict[RecordKey, Record]] = {}
        self._settled: dict[str, asyncio.Event] = {}

    def __repr__(self) -> str:
        return f"Hosting({', '.join(f'{n}: {u.health.state}' for n, u in sorted(self._upstreams.items()))})"

    def target(self, name: str) -> Target:
        upstream = self._upstreams.get(name)
        if upstream is None:
            raise Unavailable(f"server {name!r} is not hosted here")
        return upstream

    async def start(self, specs: Mapping[str, UpstreamSpec]) -> None:
        """Start supervising each; returns without waiting for any."""
        for name, spec in specs.items():
            await self._start(name, spec)

    async def add(self, name: str, spec: UpstreamSpec) -> None:
        """Bring one more in, and wait until it is up. Raises `Unavailable` with its cause, and lets go of it."""
        if name not in self._upstreams:
            await self._start(name, spec)
        await self._settled[name].wait()
        health = self._upstreams[name].health
        if health.state != "up":
            await self.remove(name)
            raise Unavailable(f"server {name!r} did not start: {health.cause}", server=name)

    async def remove(self, name: str) -> None:
        upstream = self._upstreams.pop(name, None)
        if upstream is None:
            raise Unknown(f"server {name!r} is not hosted here", server=name)
        await upstream.stop()
        self._settled.pop(name).set()
        self._change(name, {})

    async def settled(self) -> None:
        """Until every server has either come up or failed once."""
        for event in list(self._settled.values()):
            await event.wait()

    async def stop(self) -> None:
        await asyncio.gather(*(u.stop() for u in self._upstreams.values()))

    async def _start(self, name: str, spec: UpstreamSpec) -> None:
        self._settled[name] = asyncio.Event()
        upstream = self._upstreams[name] = Upstream(spec, lambda offer: self._offered(name, offer))
        await upstream.start()

    def _offered(self, name: str, offer: Offer) -> None:
        if name not in self._upstreams:
            return
        if offer.health.state != "starting":
            self._settled[name].set()
        self._change(name, records_of(offer))

    def _change(self, name: str, after: dict[RecordKey, Record]) -> None:
        puts, deletes = difference(self._published.get(name, {}), after)
        self._published[name] = after
        if puts or deletes:
            self._catalog.apply(self._catalog.me, puts, deletes)
            self._publish(puts, deletes)
