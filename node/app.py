"""The composition root: every part of a node made, joined, started and stopped, here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from aiohttp import web

from node.adding import Adding
from node.approvals import FILE as APPROVALS_FILE
from node.approvals import Approvals
from node.audit.setup import NodeAudit
from node.audit.signins import AuditedAuthenticator
from node.bridge.bridge import Bridge
from node.bridge.lot import Lot
from node.catalog import Catalog
from node.config import NodeConfig
from node.data_dir import DataDir
from node.denials import Denials
from node.discoveries import discoveries_of
from node.doors.configured import door_settings
from node.doors.listener import Listener
from node.doors.tls import server_context
from node.draining import Draining, DrainState
from node.embedding import embedder_of
from node.embedding_http import HttpEmbedder
from node.endpoints.addresses import MeshEndpoints
from node.endpoints.meta import MetaEndpoint, MetaSettings
from node.gateway import Gateway
from node.governance.setup import governance_of, office_of
from node.guard.choose import guard_of
from node.guard.measuring import MeasuredLimits
from node.guard.operating import may_operate, node_resource
from node.hosting import Hosting
from node.identity.choose import authenticator_of
from node.indexing import Indexing
from node.ingress.http import IngressSettings, McpIngress
from node.ingress.rechecking import Rechecks
from node.ingress.well_known import WellKnown
from node.learning import FILE as FEEDBACK_FILE
from node.learning import Learning, feedback_of
from node.leaving import Leaving
from node.mesh_keys import sealer_of
from node.operations import Operations
from node.operator.api import OperatorApi
from node.operator.approving import ApprovalsApi
from node.operator.governing import GoverningApi
from node.operator.policies import PolicyApi
from node.outbound.outbound import Outbound
from node.ports import Authenticator
from node.signing import signing_in
from node.store import AddedServers
from node.upstreams.upstream import Upstream
from node.vectors import NodeVectors
from node.views import MeshViews
from proto.calls import Target
from proto.errors import Invalid, Unavailable
from proto.frames import Farewell
from proto.names import NodeId
from proto.records import Kind, Record, RecordKey
from router.feedback import Feedback
from router.router import Router

if TYPE_CHECKING:
    from federation.driver import Federation
    from federation.tls import MeshTls
    from node.consenting import Consenting
    from node.upstreams.spec import UpstreamSpec

log = logging.getLogger("toolmesh.node")

SOFTWARE = f"toolmesh/{version('toolmesh')}"


class App:
    """One node. `start` returns once agents are served; servers, peers and the search model follow on their own."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.started_ms = int(time.time() * 1000)
        data_dir = config.node.data_dir
        self.data_dir = DataDir(data_dir)
        me = config.node_id
        self.audit = NodeAudit(config)
        self.outbound = Outbound(config.outbound.allow)
        self.limits = MeasuredLimits(config.limits, config.node.mesh)
        self.catalog = Catalog(me)
        self.tls = self._mesh_tls()
        self.governance = governance_of(config, self.tls)
        self.governance.publish = self._publish
        sealer = sealer_of(config.federation.mesh_keys)
        self.signing_in = signing_in(
            config, self.outbound, sealer, lambda: self.public_url, lambda name: self.hosting.wake(name)
        )
        callers = self.signing_in.callers
        self.identity = authenticator_of(
            config.auth,
            config.node.mesh,
            governance=self.governance,
            outbound=self.outbound,
            public_url=config.http.public_url,
            keep=callers.keep if callers is not None else None,
        )
        self.authenticator: Authenticator = AuditedAuthenticator(self.identity, self.audit.audit)
        self.guard = guard_of(
            config,
            governance=self.governance,
            valid=self.identity.valid,
            limits=self.limits,
            audit=self.audit.audit,
        )
        embedder = embedder_of(config.search)
        self._asked_over_http = embedder if isinstance(embedder, HttpEmbedder) else None
        self.vectors = NodeVectors(config, embedder) if embedder else None
        kept, shared = (self.vectors.kept, self.vectors.shared) if self.vectors else (None, None)
        self.feedback = feedback_of(config) if embedder else None
        snapshot = data_dir / "index.snapshot"
        self.router = Router(embedder, kept, source=shared, feedback=self.feedback, snapshot=snapshot)
        Indexing(self.catalog, self.router)
        lot = Lot(parked_s=config.http.parked_s, parked_max=config.http.parked_max)
        self.bridge = Bridge(me.name, sealer, lot)
        bridged: Callable[[Upstream], Target] = self.bridge.target
        self.consenting: Consenting | None = None
        if self.signing_in.consents is not None:
            # It brings the libraries for signatures.
            from node.consenting import asking

            bridged = asking(self.signing_in.consents, bridged)
        self.hosting = Hosting(self.catalog, self._publish, bridged)
        self.gateway = Gateway(
            self.catalog,
            self.guard,
            local=self.hosting.target,
            remote=self._remote,
            state_at=self.bridge.states.place,
            denied=Denials(self.catalog, self.guard, self.audit.audit).named,
        )
        self.added = AddedServers(data_dir / "servers.db")
        self.adding = Adding(
            config.catalogue,
            self.catalog,
            self.guard,
            self.hosting,
            self.added,
            Approvals(data_dir / APPROVALS_FILE, config.catalogue),
            self.audit.audit,
            self._catalogue_spec,
        )
        # After the guard, which has subscribed before.
        self.governance.subscribe(lambda _: self.gateway.recheck())
        self.meta = MetaEndpoint(
            self.catalog,
            self.guard,
            self.gateway,
            self.router,
            self.adding.add,
            MetaSettings.of(config.search),
            self.feedback,
        )
        self.learning = self._learning(self.feedback) if self.feedback else None
        self.endpoints = MeshEndpoints(
            self.meta, self.catalog, self.guard, self.gateway, config.http.page_items, config.http.start_wait_s
        )
        self.ingress = McpIngress(
            self.endpoints,
            self.authenticator,
            IngressSettings.of(config.http),
            carrier=self.gateway,
        )
        self.rechecks = Rechecks(self.ingress.recheck)
        self.governance.subscribe(self.endpoints.govern)
        self.governance.subscribe(lambda _: self.ingress.recheck())
        self.draining = Draining(self.gateway, self._tell_draining, lambda: self.ingress.stats()["sessions"])
        self.federation = self._federation(self.tls) if self.tls is not None else None
        self.office = office_of(
            self.governance,
            self.guard,
            self.gateway,
            self.audit.audit,
            lambda: self.federation.peers() if self.federation else (),
            lambda: self.gateway.recent,
        )
        self.ending = asyncio.Event()
        """Set once the process is to stop."""
        self.leaving = Leaving(self.gateway, self.draining, self.federation, self.ending.set)
        self.software = SOFTWARE
        self.loaded = False
        self.gateway.loading = True
        self.listener: Listener | None = None
        self._loading: asyncio.Task[None] | None = None
        self.http_port = 0

    async def start(self) -> None:
        """Raises `Unavailable` if a port or the data directory is taken, `Invalid` if files are not as configured."""
        self.data_dir.claim()
        self.audit.start(SOFTWARE)
        # Before anything is served or said: what was denied stays so.
        self.governance.open()
        node = Record.of(Kind.NODE, self.catalog.me.name, self._node_body())
        self.catalog.apply(self.catalog.me, [node], [])
        if self.vectors is not None:
            self.vectors.start(self.federation, self.router, lambda: not self.loaded)
        if self.federation is not None:
            await self.federation.start()
            self.audit.watch(self.federation)
            self.federation.publish([node], [])
            self.governance.announce()
        # What was added before is known, and what is added from the first moment on is kept.
        self.adding.open()
        if self.learning is not None:
            await self.learning.start()
        await self._listen()
        self.rechecks.start()
        # Not before agents are served: loading the model would take the processor from it.
        if self._asked_over_http is not None:
            await self._asked_over_http.open()
        await self.router.start()
        specs = {name: self.signing_in.spec(name, server) for name, server in self.config.servers.items()}
        await self.hosting.start({**specs, **self.adding.specs()})
        self._loading = asyncio.create_task(self._load())
        log.info(
            "node %s (%s) serves agents at %s, %s",
            self.catalog.me.name,
            self.catalog.me.region,
            self.url,
            f"federates on port {self.federation.bound_port}" if self.federation else "runs alone",
        )

    async def drain(self, within_s: float = 0.0) -> DrainState:
        """Peers choose other owners from now on; then until no call runs, `within_s` seconds at most.

        Whoever still comes is answered. `undrain` takes it back.
        """
        self.draining.begin()
        await self.draining.wait(within_s)
        return self.draining.state()

    def undrain(self) -> DrainState:
        """Take new work again."""
        self.draining.end()
        return self.draining.state()

    async def finish(self) -> None:
        """Drain, `node.drain_s` seconds at most, and take nothing new. For a started node, before `stop`."""
        if not self.leaving.begun:
            await self.draining.finish(self.config.node.drain_s)

    async def stop(self) -> None:
        """At once; what runs is cut. Every part is stopped, last started first, whatever becomes of the others."""
        self.gateway.refusing = True
        async with AsyncExitStack() as parts:
            parts.callback(self.data_dir.release)
            parts.push_async_callback(self.audit.stop)
            parts.callback(self.governance.close)
            parts.callback(self.adding.close)
            parts.callback(self.signing_in.close)
            if self.consenting is not None:
                parts.push_async_callback(self.consenting.close)
            if self.learning is not None:
                parts.push_async_callback(self.learning.stop)
            parts.push_async_callback(self._stop_search)
            if self.vectors is not None:
                parts.push_async_callback(self.vectors.stop)
            if self.listener is not None:
                parts.push_async_callback(self.listener.stop)
            # Before the listener, which waits for answers: calls of a server that ends get theirs, an error.
            parts.push_async_callback(self.hosting.stop)
            parts.push_async_callback(self.bridge.close)
            parts.push_async_callback(self.ingress.close)
            parts.push_async_callback(self.identity.close)
            parts.callback(self.rechecks.stop)
            if self.federation is not None:
                parts.push_async_callback(self.federation.stop, Farewell.RESTART)
                parts.push_async_callback(self.leaving.settled)
            if self._loading is not None:
                parts.callback(self._loading.cancel)
        log.info("node %s has stopped", self.catalog.me.name)

    @property
    def public_url(self) -> str:
        """By which clients reach this node: as configured, else where it listens. Without a slash at its end."""
        return self.config.http.public_url or self.url

    @property
    def url(self) -> str:
        scheme = "https" if self.config.http.tls else "http"
        host = self.config.http.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.http_port}"

    # ---- parts ----------------------------------------------------------------------------------

    async def _stop_search(self) -> None:
        # Together: the router waits for the step in hand, which may be waiting for the endpoint.
        closing = [self._asked_over_http.close()] if self._asked_over_http else []
        await asyncio.gather(self.router.stop(), *closing)

    def _mesh_tls(self) -> MeshTls | None:
        section = self.config.federation
        if section.tls is None:
            return None
        # A node that runs alone starts without gRPC, TLS and zeroconf.
        from federation.tls import MeshTls

        tls = MeshTls.load(section.tls.ca, section.tls.cert, section.tls.key)
        if tls.identity() != self.config.node_id:
            raise Invalid(
                f"federation.tls.cert {section.tls.cert} names {tls.identity().uri}, but the node section says "
                f"{self.config.node_id.uri}; issue a certificate for this node or mend node.name, region and mesh"
            )
        return tls

    def _federation(self, tls: MeshTls) -> Federation:
        from federation.driver import Federation
        from federation.store import SqliteViewStore

        section = self.config.federation
        return Federation(
            me=self.config.node_id,
            mesh=self.config.node.mesh,
            listen=section.listen,
            advertise=section.advertised,
            tls=tls,
            discoveries=discoveries_of(self.config, SOFTWARE),
            store=SqliteViewStore(self.config.node.data_dir),
            listener=self.audit.listening(MeshViews(self.catalog)),
            answer=self.gateway.answer,
            software=SOFTWARE,
            lender=self.vectors.shared if self.vectors else None,
            governor=self.governance,
        )

    def _nodes(self) -> list[NodeId]:
        return [owner.id for owner in self.catalog.owners.values()]

    def _learning(self, feedback: Feedback) -> Learning:
        file = self.config.node.data_dir / FEEDBACK_FILE
        return Learning(feedback, file, self.catalog.me, self.gateway, self._nodes)

    async def _listen(self) -> None:
        http = self.config.http
        app = web.Application(client_max_size=http.body_bytes_max + 1)
        app.add_routes(self.ingress.routes())
        well_known = WellKnown(self.config.auth, lambda: self.public_url)
        app.add_routes(well_known.routes())
        app.on_response_prepare.append(well_known.complete)
        # Before the operators' other routes, whose last one takes every path that is left.
        app.add_routes(self.audit.routes(self.authenticator, self.guard, self.catalog.me, self.gateway, self._nodes))
        app.add_routes(GoverningApi(self.office, self.authenticator).routes())
        if self.signing_in.consents is not None:
            from node.consenting import Consenting

            self.consenting = Consenting.of(self, self.signing_in.consents)
            app.add_routes(self.consenting.routes())
        operating = partial(may_operate, self.guard, node_resource(self.catalog.me))
        compared = PolicyApi(self.guard, self.authenticator, self.catalog, self.gateway, operating)
        app.add_routes(compared.routes())
        app.add_routes(ApprovalsApi(self.adding, self.authenticator, self.audit.audit, operating).routes())
        operator = OperatorApi(
            Operations(self),
            self.authenticator,
            hits=self.config.search.top_k,
            audit=self.audit.audit,
            may_operate=operating,
        )
        app.add_routes(operator.routes())
        tls = server_context(http.tls) if http.tls else None
        self.listener = Listener(app, door_settings(self.config), http.host, http.port, tls, self.audit.barred)
        try:
            await self.listener.start()
        except OSError as e:
            # asyncio puts the address into strerror; a failed look-up has a negative number and words of its own.
            why = os.strerror(e.errno) if e.errno and e.errno > 0 else e.strerror or str(e)
            raise Unavailable(
                f"http.listen {http.listen} cannot be used: {why}; stop what uses it or choose another port"
            ) from None
        self.http_port = self.listener.port

    def _node_body(self) -> dict[str, object]:
        node = self.config.node
        said = {"name": node.name, "region": node.region, "zone": node.zone, "software": SOFTWARE}
        return {**said, **self.governance.node_field}

    async def _load(self) -> None:
        """Once every own server has come up or failed, peers may replace what they remembered of this node."""
        await self.hosting.settled()
        self.loaded = True
        self.gateway.loading = False
        if self.federation is not None:
            self.federation.set_loaded()
        log.info("own servers: %r", self.hosting)

    def _publish(self, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        if self.federation is not None:
            self.federation.publish(puts, deletes)

    def _tell_draining(self, draining: bool) -> None:
        if self.federation is not None:
            self.federation.set_draining(draining)

    def _remote(self, node: str) -> Target:
        if self.federation is None:
            raise Unavailable(f"node {node!r} cannot be reached: this node runs alone")
        return self.federation.target(node)

    def _catalogue_spec(self, name: str) -> UpstreamSpec:
        """Which server it is others choose, of a list that may be long and copied: its address is judged."""
        spec = self.signing_in.spec(name, self.config.catalogue[name], judged=True)
        return replace(spec, outbound=self.outbound)
