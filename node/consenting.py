"""The pages and routes at which people consent, joined to a node that has servers which ask for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from node.audit.port import Audit
from node.catalog import Catalog, unknown_server
from node.config import NodeConfig
from node.consent.consents import Consents
from node.consent.login import LoginIssuer, Logins
from node.consent.routes import ConsentPages, Listed
from node.consent.signing_in import Guesses, SigningIn
from node.credentials.http import OutboundHttp
from node.operator.grants import GrantsApi
from node.ports import Action, Authenticator, Guard, Resource
from node.upstreams.upstream import Upstream
from proto.calls import Target
from proto.records import Principal

if TYPE_CHECKING:
    from node.app import App
    from node.outbound.outbound import Outbound


class Consenting:
    """Of one node. `public_url()` is where browsers reach it, `guesses()` the door's count of refused credentials."""

    def __init__(
        self,
        config: NodeConfig,
        consents: Consents,
        catalog: Catalog,
        guard: Guard,
        authenticator: Authenticator,
        audit: Audit,
        outbound: Outbound,
        public_url: Callable[[], str],
        guesses: Callable[[], Guesses],
    ) -> None:
        self._consents = consents
        self._catalog = catalog
        self._guard = guard
        self._audit = audit
        issuers = [
            LoginIssuer(one.issuer, login.client_id, _secret(login.client_secret), login.scopes)
            for one in config.auth.issuers
            if (login := one.login) is not None
        ]
        self._http = OutboundHttp(outbound, "signing a browser in", [one.issuer for one in issuers])
        self._logins = Logins(issuers, self._http, public_url)
        me = catalog.me.name
        demanded = config.auth.demanded
        signing_in = SigningIn(me, authenticator, self._logins, public_url, guesses=guesses, demanded=demanded)
        self._pages = ConsentPages(me, consents, signing_in, public_url, self._may_use, self._told)
        self._api = GrantsApi(consents, authenticator, self._administers, self._told)

    @classmethod
    def of(cls, app: App, consents: Consents) -> Consenting:
        """Joined to a node that has everything but its listener."""

        def guesses() -> Guesses:
            assert app.listener is not None  # noqa: S101 - whoever asks came in by it
            return app.listener.doors.visits

        return cls(
            app.config,
            consents,
            app.catalog,
            app.guard,
            app.authenticator,
            app.audit.audit,
            app.outbound,
            lambda: app.public_url,
            guesses,
        )

    def __repr__(self) -> str:
        return f"Consenting({self._pages!r})"

    def routes(self) -> list[web.RouteDef]:
        """Before the operators' other routes, whose last one takes every path that is left."""
        return [*self._pages.routes(), *self._api.routes()]

    async def close(self) -> None:
        await self._pages.close()
        await self._logins.close()
        await self._consents.grants.close()
        await self._http.close()

    def _may_use(self, principal: Principal, name: str) -> Listed:
        server = self._catalog.find(self._catalog.me.name, name) if name in self._consents.sources else None
        if server is None or self._catalog.seen(server, self._guard.visible(principal, Action.CALL)) is None:
            raise unknown_server(name)
        return Listed(name, str((server.info or {}).get("title") or ""))

    def _administers(self, principal: Principal) -> bool:
        me = self._catalog.me
        node = Resource(server="", owner=me.name, region=me.region, kind="node")
        # Grants are those of all tenants.
        return not principal.tenant and self._guard.may(principal, Action.ADMINISTER, node).allowed

    def _told(self, principal: Principal, verb: str, what: str, outcome: str) -> None:
        self._audit.admin(principal, verb, what, outcome)


def asking(consents: Consents | None, bridged: Callable[[Upstream], Target]) -> Callable[[Upstream], Target]:
    """`bridged`, which for servers that act on accounts of their callers tells these where to consent."""
    if consents is None:
        return bridged

    def target(upstream: Upstream) -> Target:
        name = upstream.spec.name
        inner = bridged(upstream)
        return consents.target(name, inner) if name in consents.sources else inner

    return target


def _secret(value: object) -> str:
    from pydantic import SecretStr

    return value.get_secret_value() if isinstance(value, SecretStr) else ""
