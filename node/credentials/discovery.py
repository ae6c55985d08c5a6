"""Who issues tokens for a server: its own word (RFC 9728), then the issuer's (RFC 8414 or OIDC Discovery)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from node.credentials.challenge import Challenge
from node.credentials.metadata import (
    AuthorizationServer,
    ResourceMetadata,
    authorization_server,
    canonical,
    check_url,
    covers,
    resource_metadata,
    resource_metadata_urls,
    server_metadata_urls,
)
from node.credentials.ports import OAuthHttp
from node.credentials.single_flight import SingleFlight
from proto.errors import Invalid, Unavailable

AGE_S = 3600.0
"""So long what was found holds, unless the server refuses a token meanwhile."""
FAILED_S = 2.0
"""So long a failure is told again, to whoever asks, before anybody is asked again."""
ISSUERS_MAX = 8
"""Of those that a server names so many are looked at."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """`resource` goes with every request for a token, exactly as the server published it (RFC 8707). `scopes` are those
    that the server says there are; None: it does not say."""

    server: AuthorizationServer
    resource: str
    scopes: tuple[str, ...] | None = None


class Discovery:
    """Of one server. `issuer`: the only one whose tokens are wanted, where the operator names one."""

    def __init__(
        self,
        name: str,
        url: str,
        http: OAuthHttp,
        *,
        issuer: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._url = url
        self._http = http
        self._issuer = issuer
        self._clock = clock
        self._found: tuple[str, float, Discovered] | None = None
        self._failed: tuple[str, float, Unavailable] | None = None
        self._flights: SingleFlight[Discovered] = SingleFlight()

    def __repr__(self) -> str:
        return f"Discovery({self._name} {self._found[2].server.issuer if self._found else 'nothing yet'})"

    async def find(self, challenge: Challenge | None = None) -> Discovered:
        """Raises `Unavailable` naming the server, what is missing or wrong, and the mend."""
        where = challenge.resource_metadata if challenge else ""
        if self._found is not None:
            asked, until, found = self._found
            if self._clock() < until and where in ("", asked):
                return found
        if self._failed is not None:
            asked, until, error = self._failed
            if self._clock() < until and where == asked:
                raise error
        return await self._flights.run(where, lambda: self._look(where))

    def is_about(self, resource: str) -> bool:
        """Is the server that resource, or below it? What was granted for another is none of its business."""
        return covers(resource, self._url)

    def forget(self) -> None:
        """The next `find` looks again: the server has taken up another issuer, perhaps."""
        self._found = None

    async def authorization_server(self, issuer: str, *, learned: bool = True) -> AuthorizationServer:
        """What this issuer says of itself. Raises `Unavailable`."""
        try:
            check_url(issuer, "the issuer")
            tried = []
            for url in server_metadata_urls(issuer):
                status, data = await self._http.get_json(url, learned=learned)
                if status == 200 and data:
                    return authorization_server(data, issuer)
                tried.append(f"{urlsplit(url).path} ({status})")
        except Invalid as e:
            raise self._unavailable(f"authorization server {issuer[:200]!r}: {e.message}") from None
        raise self._unavailable(
            f"authorization server {issuer[:200]!r} has no metadata: {', '.join(tried)}; name token_url in its 'auth'"
        )

    async def close(self) -> None:
        await self._flights.close()

    async def _look(self, where: str) -> Discovered:
        try:
            found = await self._found_at(where)
        except Unavailable as e:
            self._failed = (where, self._clock() + FAILED_S, e)
            raise
        self._found, self._failed = (where, self._clock() + AGE_S, found), None
        return found

    async def _found_at(self, where: str) -> Discovered:
        about = await self._resource(where)
        if about is None:
            # Servers of before 2025-06-18 are their own authorization server (MCP 2025-03-26, authorization).
            about = ResourceMetadata(canonical(self._url), (_root(canonical(self._url)),))
            issuer = self._issuer or about.authorization_servers[0]
        else:
            issuer = self._chosen(about)
        server = await self.authorization_server(issuer, learned=issuer != self._issuer)
        return Discovered(server, about.resource, about.scopes)

    async def _resource(self, where: str) -> ResourceMetadata | None:
        try:
            if where:
                check_url(where, "the address of its resource metadata")
            for url in (where,) if where else resource_metadata_urls(self._url):
                status, data = await self._http.get_json(url, learned=True)
                if status == 200 and data:
                    return resource_metadata(data, self._url)
            if where:
                raise Invalid(f"its resource metadata at {where!r} cannot be read (status {status})")
        except Invalid as e:
            raise self._unavailable(e.message) from None
        return None

    def _chosen(self, about: ResourceMetadata) -> str:
        """The operator's choice, where the server takes it; else the first that the server names."""
        if self._issuer:
            if self._issuer not in about.authorization_servers:
                named = ", ".join(about.authorization_servers[:ISSUERS_MAX])[:400]
                raise self._unavailable(f"it takes tokens of {named}, not of the configured issuer {self._issuer!r}")
            return self._issuer
        return about.authorization_servers[0]

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"server {self._name!r}: {why}", server=self._name)


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
