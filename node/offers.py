"""What a server of ours offers, as the records that the mesh sees. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from node.upstreams.offer import Offer
from proto.names import member_id
from proto.records import Kind, Record, RecordKey


def records_of(offer: Offer) -> dict[RecordKey, Record]:
    """The server's own record and one for each tool, prompt, resource and template. First of a name wins."""
    spec = offer.spec
    body: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title or str(offer.server_info.get("title") or ""),
        "description": spec.description,
        "service": spec.service,
        "stateless": spec.stateless,
        "labels": dict(spec.labels),
        # `since` tells one life of the server from the next: with the first, the state that it held is gone.
        "health": {"state": offer.health.state, "cause": offer.health.cause, "since": offer.health.since_ms},
        "serverInfo": offer.server_info,
        "capabilities": offer.capabilities,
        "instructions": offer.instructions,
        "protocolVersion": offer.protocol_version,
    }
    if safe := spec.retry_safe:
        body["retrySafe"] = safe if isinstance(safe, bool) else list(safe)
    server = Record.of(Kind.SERVER, spec.name, body)
    records = {server.key: server}
    members: tuple[tuple[Kind, str, Iterable[dict[str, Any]]], ...] = (
        (Kind.TOOL, "name", offer.tools),
        (Kind.PROMPT, "name", offer.prompts),
        (Kind.RESOURCE, "uri", offer.resources),
        (Kind.TEMPLATE, "uriTemplate", offer.templates),
    )
    for kind, field, definitions in members:
        for definition in definitions:
            name = definition.get(field)
            if isinstance(name, str) and name:
                key = RecordKey(kind, member_id(spec.name, name))
                if key not in records:
                    records[key] = Record.of(kind, key.id, definition)
    return records


def difference(before: dict[RecordKey, Record], after: dict[RecordKey, Record]) -> tuple[list[Record], list[RecordKey]]:
    """(puts, deletes) that turn one into the other."""
    puts = [r for key, r in after.items() if key not in before or before[key].digest != r.digest]
    return puts, [key for key in before if key not in after]
