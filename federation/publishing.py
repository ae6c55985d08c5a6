"""What a node says of itself, taken into its log: what cannot be said is left out, named, and holds up nothing else."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from federation.log import Log
from federation.refusals import Reason, Refusals
from proto.errors import MeshError
from proto.records import Record, RecordKey

log = logging.getLogger("toolmesh.federation")


def publish(own: Log, refusals: Refusals, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> bool:
    """Whether anything changed."""
    try:
        return own.publish(puts, deletes)
    except MeshError:
        return _each(own, refusals, puts, deletes)


def _each(own: Log, refusals: Refusals, puts: Sequence[Record], deletes: Sequence[RecordKey]) -> bool:
    changed = own.publish((), deletes)
    for record in puts:
        try:
            changed |= own.publish((record,), ())
        except MeshError as e:
            named = f"{record.kind} record {record.id!r}"
            message = e.message if e.message.startswith(named) else f"{named}: {e.message}"
            log.error("left out of what this node owns: %s", message)
            refusals.note("here", own.me.uri, Reason.RECORD, message)
    return changed
