"""Which of the things that a server offers a request is about, as a guard is to decide on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node.asking import Aim, accompanies
from node.catalog import Catalog, Route, Server
from node.endpoints.templates import template
from node.ports import Resource, Visibility
from proto.records import Kind


def aimed_at(server: Server, aim: Aim) -> Resource:
    """What of this server the request names: as it is listed, or else as it would be."""
    if aim.kind is Kind.RESOURCE:
        return _uri(server, aim.name)
    return server.resource(aim.name, aim.kind)


def resources_of(
    servers: Sequence[Server], method: str, aim: Aim | None, catalog: Catalog, visibility: Visibility
) -> list[Resource]:
    """What the request is about, at each of the servers that could take it."""
    if aim is not None:
        return [aimed_at(server, aim) for server in servers]
    if accompanies(method):
        return [catalog.seen(server, visibility) or server.resource() for server in servers]
    return [server.resource() for server in servers]


def heard_uris(route: Route, asked: dict[str, Any], visibility: Visibility) -> dict[str, Any]:
    """What a listen asks for, without the resources that its caller may not read: nothing is heard of those."""
    uris = asked.get("resourceSubscriptions")
    if not isinstance(uris, list):
        return asked
    aims = [Aim(Kind.RESOURCE, uri) for uri in uris if isinstance(uri, str)]
    read = [a.name for a in aims if any(visibility.allows(aimed_at(s, a)) for s in route.servers)]
    return {**asked, "resourceSubscriptions": read}


def _uri(server: Server, uri: str) -> Resource:
    """A listed resource, a template itself, or what the template that fixes most of the URI makes."""
    templates = server.members[Kind.TEMPLATE]
    if uri in server.members[Kind.RESOURCE] or not templates:
        return server.resource(uri, Kind.RESOURCE)
    if uri in templates:
        return server.resource(uri, Kind.TEMPLATE)
    matching = [known for text in templates if (known := template(text)).matches(uri)]
    if matching:
        return server.resource(uri, Kind.RESOURCE, max(matching, key=lambda known: known.literal).text)
    return server.resource(uri, Kind.RESOURCE)
