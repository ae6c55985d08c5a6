"""Everything of one node about accounts of its callers: sources of tokens, tickets, and what waits to come back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from node.bridge.states import States
from node.consent.asking import Asking
from node.consent.tickets import Tickets
from node.credentials.consent import ConsentSource, Where
from node.credentials.consent_flow import Flows
from node.credentials.consent_grants import Grant, Grants, Holder
from node.credentials.discovery import Discovery
from node.credentials.ports import OAuthHttp
from node.credentials.registration import Registrar
from node.sealing import Sealer
from node.secrets.ports import SecretStore
from node.settings.consent_auth import AuthorizationCodeAuth
from proto.calls import Target
from proto.errors import Unknown

START, CONNECT = "/oauth/start", "/oauth/connect"
CALLBACK, DOCUMENT = "/oauth/callback", "/oauth/client"
TAG = "[0-9a-f]{32}"


class Consents:
    """Of the node `me`. `public_url()` is where browsers and authorization servers reach it, without a last slash.

    `changed(server, holder)`, set by whoever caches tokens, is called on the loop after a grant was given or ended.
    """

    def __init__(self, me: str, store: SecretStore, sealer: Sealer, public_url: Callable[[], str]) -> None:
        self._store = store
        self._public_url = public_url
        self.grants = Grants(store)
        self.flows = Flows()
        self.tickets = Tickets(me, sealer)
        self.asking = Asking(self.tickets, States(me, sealer), lambda ticket: f"{public_url()}{START}/{ticket}")
        self.sources: dict[str, ConsentSource] = {}
        self.changed: Callable[[str, Holder], None] = lambda _server, _holder: None

    def __repr__(self) -> str:
        return f"Consents({', '.join(sorted(self.sources)) or 'none'}; {self.flows!r})"

    def source(self, server: str, auth: AuthorizationCodeAuth, discovery: Discovery, http: OAuthHttp) -> ConsentSource:
        """Where the tokens for this server come from; asked again for the same name, the new one counts."""
        made = self.sources[server] = ConsentSource(
            server,
            auth,
            discovery,
            http,
            self.grants,
            Registrar(self._store, http),
            self.flows,
            self.where,
            lambda server, holder: self.changed(server, holder),
        )
        return made

    def target(self, server: str, inner: Target) -> Target:
        """`inner`, which tells callers where to consent."""
        return self.asking.target(server, inner)

    def where(self, issuer: str = "") -> Where:
        """Every issuer leads back to an address of its own, so that none can pass off the answer of another as its own
        (RFC 9700 §4.4); empty: the one address of clients that were registered by hand."""
        return self.where_at(tag_of(issuer) if issuer else "")

    def where_at(self, tag: str) -> Where:
        url, at = self._public_url(), f"/{tag}" if tag else ""
        document = f"{url}{DOCUMENT}{at}.json" if url.startswith("https://") else ""
        return Where(f"{url}{CALLBACK}{at}", document, f"{url}{CONNECT}")

    async def finish(self, parameters: Mapping[str, str], browser: str, path: str) -> Grant:
        """What a browser brought back from an authorization server, to this path of ours.

        Raises `Invalid` or `Unavailable` with the mend.
        """
        flow, code = self.flows.take(parameters, browser, f"{self._public_url()}{path}")
        grant = await self._source(flow.purpose).complete(flow, code)
        self.asking.completed(grant.server, grant.holder, flow.note)
        return grant

    async def remove(self, server: str, holder: Holder) -> bool:
        """Whether there was one. Also of a server that is no longer configured so: then nobody else is told."""
        source = self.sources.get(server)
        return await source.remove(holder) if source is not None else self.grants.remove(server, holder)

    def _source(self, server: str) -> ConsentSource:
        source = self.sources.get(server)
        if source is None:
            raise Unknown(f"server {server!r} does not act on accounts of its callers", server=server)
        return source


def tag_of(issuer: str) -> str:
    """Stands for an issuer in an address, as `TAG`."""
    return hashlib.sha256(issuer.encode()).hexdigest()[:32]
