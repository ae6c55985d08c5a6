"""What a server of ours offers, as the records that the mesh sees. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from node.guard.globs import pattern_of
from node.upstreams.modern import MODERN_VERSION
from node.upstreams.offer import Offer
from proto import jsons
from proto.names import member_id
from proto.records import Kind, Record, RecordKey


class Offered:
    """The records of one server, from one offer to the next.

    A digest costs some 25 us, on the loop, and a server may have thousands of tools: those whose definition is the
    same object, or the same text, keep their record. So a change of health digests the server's own record alone.
    """

    def __init__(self) -> None:
        self.records: dict[RecordKey, Record] = {}
        self._definitions: dict[RecordKey, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"Offered({len(self.records)} records)"

    def take(self, offer: Offer) -> tuple[list[Record], list[RecordKey]]:
        """(puts, deletes) that turn what was offered before into this. First of a name wins."""
        server = Record.of(Kind.SERVER, offer.spec.name, _body(offer))
        records = {server.key: server}
        definitions: dict[RecordKey, dict[str, Any]] = {}
        for key, definition in _members(offer):
            if key not in records:
                records[key] = self._record(key, definition)
                definitions[key] = definition
        puts = [r for key, r in records.items() if (old := self.records.get(key)) is not r and not _same(old, r)]
        deletes = [key for key in self.records if key not in records]
        self.records, self._definitions = records, definitions
        return puts, deletes

    def withdraw(self) -> list[RecordKey]:
        """The deletes that leave nothing of it."""
        deletes = list(self.records)
        self.records, self._definitions = {}, {}
        return deletes

    def _record(self, key: RecordKey, definition: dict[str, Any]) -> Record:
        old = self.records.get(key)
        if old is not None and (
            self._definitions[key] is definition
            # A server that comes back, or lists again, sends most of its tools as they were.
            or jsons.dumps(definition) == old.body
        ):
            return old
        return Record.of(key.kind, key.id, definition)


def _same(old: Record | None, new: Record) -> bool:
    return old is not None and old.digest == new.digest


def _body(offer: Offer) -> dict[str, Any]:
    spec = offer.spec
    body: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title or str(offer.server_info.get("title") or ""),
        "description": spec.description,
        "service": spec.service,
        "stateless": spec.stateless,
        "labels": dict(spec.labels),
        **_ownership(offer),
        # `since` tells one life of the server from the next: with the first, the state that it held is gone.
        "health": {"state": offer.health.state, "cause": offer.health.cause, "since": offer.health.since_ms},
        "serverInfo": offer.server_info,
        "capabilities": _capabilities(offer),
        "instructions": offer.instructions,
        "protocolVersion": offer.protocol_version,
    }
    if offer.modern_capabilities and offer.protocol_version != MODERN_VERSION:
        body["modernCapabilities"] = offer.modern_capabilities
    if safe := spec.retry_safe:
        body["retrySafe"] = safe if isinstance(safe, bool) else list(safe)
    return body


def _ownership(offer: Offer) -> dict[str, Any]:
    """Only what is laid down: records of older nodes, and of servers that are everybody's, look alike."""
    spec = offer.spec
    scopes = {glob: list(needed) for glob, needed in spec.scopes.items()}
    laid_down = {"tenant": spec.tenant, "teams": list(spec.teams), "scopes": scopes}
    return {name: value for name, value in laid_down.items() if value}


def _capabilities(offer: Offer) -> dict[str, Any]:
    """As the server says; without `tasks/list`, which is not relayed to a session that everybody shares."""
    spec, tasks = offer.spec, offer.capabilities.get("tasks")
    if not isinstance(tasks, dict) or "list" not in tasks or not (spec.stateless or spec.sessions == "shared"):
        return offer.capabilities
    return {**offer.capabilities, "tasks": {key: value for key, value in tasks.items() if key != "list"}}


def _offered(offer: Offer) -> Iterator[dict[str, Any]]:
    """The tools without those that the configuration leaves out: they are published to nobody, and so run by nobody."""
    spec = offer.spec
    if not spec.tools_allow and not spec.tools_block:
        yield from offer.tools
        return
    allowed, blocked = pattern_of(spec.tools_allow or ("*",)), pattern_of(spec.tools_block)
    for tool in offer.tools:
        name = tool.get("name")
        if isinstance(name, str) and allowed.match(name) and not blocked.match(name):
            yield tool


def _members(offer: Offer) -> Iterator[tuple[RecordKey, dict[str, Any]]]:
    lists = (
        (Kind.TOOL, "name", _offered(offer)),
        (Kind.PROMPT, "name", offer.prompts),
        (Kind.RESOURCE, "uri", offer.resources),
        (Kind.TEMPLATE, "uriTemplate", offer.templates),
    )
    for kind, field, definitions in lists:
        for definition in definitions:
            name = definition.get(field)
            if isinstance(name, str) and name:
                yield RecordKey(kind, member_id(offer.spec.name, name)), definition
