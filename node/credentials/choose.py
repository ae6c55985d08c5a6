"""Which credentials a server gets, as its configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from node.credentials.bearer import BearerCredentials, Whose
from node.credentials.callers import CallerTokens
from node.credentials.client_auth import OAuthClient, SigningKey
from node.credentials.client_credentials import ClientCredentials, TokenEndpoint
from node.credentials.discovery import Discovered, Discovery
from node.credentials.http import OutboundHttp
from node.credentials.metadata import AuthorizationServer, canonical
from node.credentials.ports import TokenSource
from node.credentials.token_exchange import TokenExchange, assertion_of, named_caller, own_token
from node.settings.consent_auth import AuthorizationCodeAuth
from node.settings.upstream_auth import ClientCredentialsAuth, TokenExchangeAuth
from proto.errors import Unavailable
from proto.names import NodeId
from proto.records import Principal

if TYPE_CHECKING:
    from node.consent.consents import Consents
    from node.outbound.outbound import Outbound
    from node.settings.servers import ServerConfig
    from node.upstreams.spec import UpstreamSpec


class Signing:
    """Of one node. `consents` is where the tokens of kind `authorization_code` come from.

    `wake(server)` is called when a server that waited for somebody's consent may be tried again.
    """

    def __init__(
        self,
        me: NodeId,
        outbound: Outbound,
        callers: CallerTokens,
        consents: Consents | None = None,
        wake: Callable[[str], None] = lambda _server: None,
    ) -> None:
        self._me = me
        self._node = Principal(me.uri, me.trust_domain, kind="node")
        self._outbound = outbound
        self._callers = callers
        self._consents = consents
        self._wake = wake
        self._made: dict[str, BearerCredentials] = {}
        if consents is not None:
            consents.changed = self.changed

    def __repr__(self) -> str:
        return f"Signing({', '.join(sorted(self._made)) or 'fixed headers only'})"

    def spec(self, name: str, config: ServerConfig, *, judged: bool = False) -> UpstreamSpec:
        """What is started or connected to, with what signs in there. Raises `Invalid`."""
        spec = config.to_spec(name)
        credentials = self.credentials(name, config, judged=judged)
        return spec if credentials is None else replace(spec, credentials=credentials)

    def credentials(self, name: str, config: ServerConfig, *, judged: bool = False) -> BearerCredentials | None:
        """None where its fixed headers are all. Made again for the same server, the new ones count.

        `judged`: others choose the server, so that its `url` is dialled for its metadata only if it is public too.
        """
        auth = config.auth
        if auth is None:
            return None
        token_url = "" if isinstance(auth, AuthorizationCodeAuth) else auth.token_url
        written = [url for url in ("" if judged else config.url, auth.issuer, token_url) if url]
        http = OutboundHttp(self._outbound, f"signing in to server {name!r}", [canonical(url) for url in written])
        discovery = Discovery(name, config.url, http, issuer=auth.issuer)
        whose: Whose | None = None
        source: TokenSource
        match auth:
            case ClientCredentialsAuth():
                endpoint = _endpoint(name, config, auth, http, discovery)
                source = ClientCredentials(endpoint, auth.scopes, auth.resource)
            case TokenExchangeAuth():
                endpoint = _endpoint(name, config, auth, http, discovery)
                whose = named_caller(name, own=auth.subject == "token")
                source = self._exchange(name, auth, endpoint)
            case AuthorizationCodeAuth():
                if self._consents is None:
                    raise Unavailable(f"server {name!r}: this node keeps no grants", server=name)
                whose = consenting(name)
                source = self._consents.source(name, auth, discovery, http)
        made = self._made[name] = BearerCredentials(
            name,
            source,
            node=self._me.name,
            whose=whose,
            base=_fixed(config),
            discovery=discovery,
            eager=bool(token_url),
            steps_up=not auth.scopes,
            closes=(http.close,),
        )
        return made

    def changed(self, server: str, holder: tuple[str, ...]) -> None:
        """A grant of `holder` was given or is over."""
        made = self._made.get(server)
        if made is not None:
            made.drop(holder)
            made.forget(None)
        self._wake(server)

    def _exchange(self, name: str, auth: TokenExchangeAuth, endpoint: TokenEndpoint) -> TokenExchange:
        if auth.assertion_key is not None:
            key = SigningKey(auth.assertion_key.get_secret_value(), auth.assertion_key_id)
            subject = assertion_of(key, auth.assertion_issuer or self._me.uri, auth.assertion_audience)
        else:
            subject = own_token(name, self._callers)
        return TokenExchange(
            name,
            endpoint,
            subject,
            node=self._node,
            listing=ClientCredentials(endpoint, auth.scopes, auth.resource) if auth.lists_as == "client" else None,
            scopes=auth.scopes,
            resource=auth.resource,
            audience=auth.audience,
        )


def consenting(server: str) -> Whose:
    """Whose a grant is, for `BearerCredentials`: a person's, by issuer, tenant and subject."""

    def whose(principal: Principal, local: bool) -> tuple[str, ...]:
        if principal.kind == "anonymous" and not local:
            # Everybody without a name, at every node, would be one person.
            raise Unavailable(f"server {server!r} wants to know who calls; sign in at your node", server=server)
        return principal.identity

    return whose


def _endpoint(
    name: str,
    config: ServerConfig,
    auth: ClientCredentialsAuth | TokenExchangeAuth,
    http: OutboundHttp,
    discovery: Discovery,
) -> TokenEndpoint:
    key = SigningKey(auth.client_key.get_secret_value(), auth.client_key_id) if auth.client_key is not None else None
    client = OAuthClient(auth.client_id, auth.secret, auth.client_auth or "none", key)
    known = None
    if auth.token_url:
        known = Discovered(
            AuthorizationServer(issuer=auth.issuer, token_endpoint=auth.token_url),
            auth.resource or canonical(config.url),
        )
    return TokenEndpoint(
        name,
        http,
        client,
        discovery=None if known is not None else discovery,
        fixed=known,
        chooses=not auth.client_auth,
    )


def _fixed(config: ServerConfig) -> Mapping[str, str]:
    return {name: secret.get_secret_value() for name, secret in config.headers.items()}
