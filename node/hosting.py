"""The servers that this node hosts or connects: started, kept, published, and brought in at run time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from node.catalog import Catalog
from node.offers import Offered
from node.upstreams.offer import Offer
from node.upstreams.spec import UpstreamSpec
from node.upstreams.upstream import Upstream
from proto.calls import Target
from proto.errors import Unavailable, Unknown
from proto.records import Record, RecordKey

log = logging.getLogger("toolmesh.hosting")

Publish = Callable[[Sequence[Record], Sequence[RecordKey]], None]


def straight(upstream: Upstream) -> Target:
    return upstream


class Hosting:
    """Own upstreams by name. Every change of what they offer goes to the catalogue and, by `publish`, to the mesh.

    `bridged` makes of each what clients of every era call.
    """

    def __init__(self, catalog: Catalog, publish: Publish, bridged: Callable[[Upstream], Target] = straight) -> None:
        self._catalog = catalog
        self._publish = publish
        self._bridged = bridged
        self._upstreams: dict[str, Upstream] = {}
        self._targets: dict[str, Target] = {}
        self._offered: dict[str, Offered] = {}
        self._strays: dict[str, list[str]] = {}
        self._settled: dict[str, asyncio.Event] = {}
        self._adding: dict[str, asyncio.Task[None]] = {}
        self._surveys = asyncio.Lock()
        self._stopping = False

    def __repr__(self) -> str:
        return f"Hosting({', '.join(f'{n}: {u.health.state}' for n, u in sorted(self._upstreams.items()))})"

    def target(self, name: str) -> Target:
        target = self._targets.get(name)
        if target is None:
            raise Unavailable(f"server {name!r} is not hosted here")
        return target

    async def start(self, specs: Mapping[str, UpstreamSpec]) -> None:
        """Start supervising each; returns without waiting for any."""
        for name, spec in specs.items():
            await self._start(name, spec)

    async def add(self, name: str, spec: UpstreamSpec, added: Callable[[str], None] | None = None) -> None:
        """Bring one more in, wait until it is up, then tell `added`, once.

        Whoever adds the same name meanwhile waits for the same start; one who stops waiting does not stop it. Raises
        `Unavailable` with its cause once the server has been let go of, and what `added` raises.
        """
        adding = self._adding.get(name)
        if adding is None:
            adding = asyncio.create_task(self._bring(name, spec, added), name=f"adding {name}")
            self._adding[name] = adding
            adding.add_done_callback(lambda done: self._brought(name, done))
        await asyncio.shield(adding)

    async def _bring(self, name: str, spec: UpstreamSpec, added: Callable[[str], None] | None) -> None:
        new = name not in self._upstreams
        if new:
            await self._start(name, spec)
        await self._settled[name].wait()
        upstream = self._upstreams.get(name)
        health = upstream.health if upstream is not None else None
        if health is None or health.state != "up":
            if new and upstream is not None:
                await self.remove(name)
            raise Unavailable(f"server {name!r} did not start: {health.cause if health else 'removed'}", server=name)
        if added is not None:
            added(name)

    def _brought(self, name: str, done: asyncio.Task[None]) -> None:
        del self._adding[name]
        if not done.cancelled() and (error := done.exception()) is not None:
            # Those who still wait are told as well; they may all have left.
            log.info("server %s was not added: %s", name, error)

    async def remove(self, name: str) -> None:
        upstream = self._upstreams.pop(name, None)
        self._targets.pop(name, None)
        if upstream is None:
            raise Unknown(f"server {name!r} is not hosted here", server=name)
        settled = self._settled[name]
        await upstream.stop()
        settled.set()
        if name not in self._upstreams:
            del self._settled[name]
            self._strays.pop(name, None)
            self._change((), self._offered.pop(name).withdraw())

    async def drop(self, name: str) -> None:
        """Let go of it, also while it is being brought in. No-op where it is not hosted."""
        if name in self._adding:
            # Its task has begun once the loop has turned: there is something to let go of.
            await asyncio.sleep(0)
        if name in self._upstreams:
            await self.remove(name)

    def wake(self, name: str) -> None:
        """What kept that server down may be over: it is tried now. No-op where it is not hosted."""
        upstream = self._upstreams.get(name)
        if upstream is not None:
            upstream.wake()

    async def settled(self, name: str = "") -> None:
        """Until every server has either come up or failed once; or that one, if it is hosted here."""
        awaited = [event for known, event in self._settled.items() if name in ("", known)]
        for event in awaited:
            await event.wait()

    async def stop(self) -> None:
        """End every server; from now on none is started."""
        self._stopping = True
        await asyncio.gather(*(u.stop() for u in self._upstreams.values()))
        # Those that were being added have been told by now that theirs has stopped, and let go of it.
        await asyncio.gather(*self._adding.values(), return_exceptions=True)

    async def _start(self, name: str, spec: UpstreamSpec) -> None:
        if self._stopping:
            raise Unavailable(f"server {name!r} is not started: this node is stopping", server=name)
        self._settled[name] = asyncio.Event()
        upstream = self._upstreams[name] = Upstream(
            spec, lambda offer: self._told(upstream, offer), surveys=self._surveys
        )
        self._targets[name] = self._bridged(upstream)
        # Until it has come up or failed it is known as starting, and so not taken for one that does not exist.
        self._change(*self._offered.setdefault(name, Offered()).take(upstream.offer))
        await upstream.start()

    def _told(self, upstream: Upstream, offer: Offer) -> None:
        name = upstream.spec.name
        if self._upstreams.get(name) is not upstream:
            return
        if offer.health.state != "starting":
            self._settled[name].set()
        if offer.health.state == "up":
            self._look_for_slips(offer)
        self._change(*self._offered[name].take(offer))

    def _look_for_slips(self, offer: Offer) -> None:
        """Only a server that runs shows that a name in its configuration is none of its tools."""
        name, safe = offer.spec.name, offer.spec.retry_safe
        known = {tool.get("name") for tool in offer.tools}
        strays = [] if isinstance(safe, bool) else sorted(t for t in set(safe) if t not in known)
        if strays and strays != self._strays.get(name):
            log.warning("server %s: retry_safe names what is no tool of it: %s", name, ", ".join(strays))
        self._strays[name] = strays

    def _change(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        if puts or deletes:
            self._catalog.apply(self._catalog.me, puts, deletes)
            self._publish(puts, deletes)
