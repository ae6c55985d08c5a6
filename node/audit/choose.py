"""The audit that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.audit.bounds import AuditSettings, JsonlFiles
from node.audit.entries import Bodies
from node.audit.masking import Mask
from node.audit.recorder import Recorder
from node.audit.signing import Signer, own_key, signer_of
from node.audit.store import FILE, SqliteAuditStore
from proto.errors import Invalid

if TYPE_CHECKING:
    from node.config import NodeConfig

DAY_MS = 86_400_000


def recorder_of(config: NodeConfig) -> Recorder | None:
    """None where `audit.enabled` is false. Opens and makes nothing yet."""
    section = config.audit
    if not section.enabled:
        return None
    jsonl = section.jsonl
    files = JsonlFiles(jsonl.directory, jsonl.rotate_mb * 1024 * 1024, jsonl.keep) if jsonl.directory else None
    settings = AuditSettings(
        overflow=section.overflow,
        queue_records=section.queue_records,
        queue_bytes=section.queue_bytes,
        keep_ms=int(section.keep_days * DAY_MS),
        keep_bytes=section.keep_bytes,
        bodies=Bodies(Mask(section.mask), section.body_characters) if section.bodies else None,
        jsonl=files,
    )
    store = SqliteAuditStore(config.node.data_dir / FILE)
    return Recorder(config.node_id, store, lambda: signer_for(config), settings)


def signer_for(config: NodeConfig) -> Signer:
    """With the key of the node's certificate, or, of a node that runs alone, one of its own. Raises `Invalid`."""
    files = config.federation.tls
    if files is None:
        return own_key(config.node.data_dir)
    try:
        return signer_of(files.key.read_bytes(), files.cert.read_bytes())
    except OSError as e:
        raise Invalid(f"federation.tls: {e.filename} cannot be read: {e.strerror or e}") from None
