"""What the federation reports, put into the catalogue: a `federation.ports.ViewListener`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from federation.events import Liveness
from node.catalog import Catalog
from proto.names import NodeId
from proto.records import Record, RecordKey

log = logging.getLogger("toolmesh.mesh")


class MeshViews:
    """Peers' facts and fortunes, as they come. The federation decides on grace; the catalogue only obeys."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def changed(self, owner: NodeId, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> None:
        self._catalog.apply(owner, puts, deletes)

    def liveness(self, owner: NodeId, state: Liveness, *, listed: bool) -> None:
        held = self._catalog.owners.get(owner.name)
        was_listed = held is None or held.listed
        self._catalog.set_liveness(owner, state, listed=listed)
        if state is Liveness.LEFT:
            self._catalog.forget(owner)
        elif listed != was_listed:
            log.info("the tools of %s %s lists and search", owner.name, "are back in" if listed else "leave")
