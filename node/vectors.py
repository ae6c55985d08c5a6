"""A node's vectors: where they are kept, with whom they are shared, and when what nobody uses any more is swept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.config import NodeConfig
from node.operator.ports import VectorsStatus
from proto.errors import Unavailable
from router.chroma_directory import ChromaDirectory
from router.chroma_server import ChromaServer, ServerAddress
from router.keeping import KeptVectors, Shelf
from router.ports import Embedder, RouterStatus
from router.router import Router

if TYPE_CHECKING:
    from federation.driver import Federation
    from node.sharing import SharedVectors

log = logging.getLogger("toolmesh.node.vectors")

DIRECTORY = "vectors"
FIRST_SWEEP_S = 3_600.0
"""Until then every peer has come back whose tools were there before the start."""

SWEEP_S = 86_400.0


class NodeVectors:
    """`kept` for the router to keep vectors in; `shared` with peers, None for a node that runs alone or shares none."""

    def __init__(self, config: NodeConfig, embedder: Embedder) -> None:
        self._place = config.search.store.url or str(config.node.data_dir / DIRECTORY)
        self.kept = KeptVectors(_shelf(config, embedder.model_id))
        self.shared: SharedVectors | None = None
        if config.federation.enabled and config.search.share_vectors:
            # A node that runs alone does without what the federation needs.
            from node.sharing import SharedVectors

            self.shared = SharedVectors(config.node.name, config.node.region, embedder, self.kept)
        self._sweeping: asyncio.Task[None] | None = None

    def status(self, searching: RouterStatus) -> VectorsStatus:
        """For operators; `searching` is the router's."""
        kept, shared = self.kept.status(), self.shared
        return {
            "place": self._place,
            "state": kept.state,
            "problem": kept.problem,
            "waiting": kept.waiting,
            "dropped": kept.dropped,
            "swept": kept.swept,
            "disk_bytes": kept.disk_bytes,
            "from_store": searching.from_store,
            "from_peers": searching.from_peers,
            "computed": searching.computed,
            "lent": shared.lent if shared is not None else 0,
            "not_believed": list(shared.doubted) if shared is not None else [],
        }

    def start(self, federation: Federation | None, router: Router, loading: Callable[[], bool]) -> None:
        """On the loop, before the federation answers anybody. `loading`: servers of this node are coming yet."""
        if self.shared is not None and federation is not None:
            self.shared.join(federation, lambda: loading() or router.status().pending > 0)
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep(router), name="sweep vectors")

    async def stop(self) -> None:
        """Nobody is asked any more. The router closes what is kept."""
        if self.shared is not None:
            self.shared.leave()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})

    async def _sweep(self, router: Router) -> None:
        pause_s = FIRST_SWEEP_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = SWEEP_S
            try:
                await asyncio.to_thread(lambda: self.kept.sweep(router.texts_in_use()))
            except Unavailable as e:
                log.info("vectors are not swept: %s", e.message)
            except Exception:
                # The edge of this task, of which nobody asks how it ended.
                log.exception("vectors were not swept; the next time is tried")


def _shelf(config: NodeConfig, model_id: str) -> Shelf:
    store = config.search.store
    if not store.url:
        return ChromaDirectory(config.node.data_dir / DIRECTORY, model_id)
    token = store.token.get_secret_value() if store.token is not None else ""
    ca = str(store.ca) if store.ca is not None else ""
    return ChromaServer(ServerAddress(store.url, token, store.tenant, store.database, ca), model_id)
