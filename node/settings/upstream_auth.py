"""How this node signs in to one server at a `url`: `servers.X.auth`, one section for each kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, SecretStr, Tag, model_validator

from node.settings.consent_auth import AuthorizationCodeAuth
from node.settings.values import Secret, Section, is_loopback

if TYPE_CHECKING:
    from node.config import NodeConfig
    from node.settings.servers import ServerConfig


def _endpoint(value: str) -> str:
    if not value:
        return value
    try:
        parts = urlsplit(value)
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        good = safe and parts.hostname and parts.port != 0 and not (parts.username or parts.fragment)
    except ValueError:
        good = False
    if not good:
        raise ValueError("is not an https:// address: a token, or what gives one, would be read on the way")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint), Field(max_length=2_000)]
Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=64)]


class _ClientSection(Section):
    """Which client this node is, at which authorization server.

    `client_secret` or `client_key` (a private key in PEM, for private_key_jwt) proves it, as `client_auth` says; left
    out, the authorization server chooses. Which one that is, `issuer` says, and the server's own metadata (RFC 9728)
    must name it too; `token_url` spares the search. With a key alone the server's word will do: what it signs is for
    one issuer, and of no use to another. `scopes` are asked for, and no others; without them those that the server asks
    for. `resource` (RFC 8707) is what the server calls itself, unless it is given.
    """

    client_id: str = Field(min_length=1, max_length=2_000)
    client_secret: Secret | None = None
    client_key: Secret | None = None
    client_key_id: str = Field(default="", max_length=200)
    client_auth: Literal["", "none", "client_secret_basic", "client_secret_post", "private_key_jwt"] = ""
    issuer: Endpoint = ""
    token_url: Endpoint = ""
    scopes: Words = ()
    resource: str = Field(default="", max_length=2_000)

    @model_validator(mode="after")
    def _one_proof(self) -> _ClientSection:
        if self.client_secret is not None and self.client_key is not None:
            raise ValueError("'client_secret' and 'client_key' are both given; which of them proves the client?")
        needs = {"client_secret_basic": "client_secret", "client_secret_post": "client_secret"}
        needs["private_key_jwt"] = "client_key"
        lacking = needs.get(self.client_auth)
        if lacking and getattr(self, lacking) is None:
            raise ValueError(f"'client_auth: {self.client_auth}' needs '{lacking}'")
        if self.client_secret is not None and not (self.issuer or self.token_url):
            # Otherwise the server could name an authorization server of its own, and be sent the secret.
            raise ValueError("'client_secret' is for one authorization server: say which, by 'issuer' or 'token_url'")
        if self.client_key is not None:
            _check_key(self.client_key, "client_key")
        return self

    @property
    def secret(self) -> str:
        return self.client_secret.get_secret_value() if self.client_secret is not None else ""


class ClientCredentialsAuth(_ClientSection):
    """This node signs in as itself (OAuth 2.1 client credentials): to the server every caller is the same."""

    kind: Literal["client_credentials"]

    @model_validator(mode="after")
    def _has_a_proof(self) -> ClientCredentialsAuth:
        if self.client_secret is None and self.client_key is None:
            raise ValueError("'client_credentials' needs 'client_secret' or 'client_key': an id alone proves nothing")
        return self


class TokenExchangeAuth(_ClientSection):
    """Each caller gets a token of its own in exchange (RFC 8693).

    `subject: assertion` gives this node's word, a JWT signed with `assertion_key` (PEM), as `assertion_issuer` (its
    node id, unless given) to `assertion_audience` (the authorization server's issuer); no caller's token is used.
    `subject: token` gives the token with which the caller came in, where that was at this very node. `audience` names
    the server beside `resource`. `listing`: in whose name lists are asked for: `node`, by its own assertion, or
    `client`, by client credentials.
    """

    kind: Literal["token_exchange"]
    subject: Literal["assertion", "token"] = "assertion"
    assertion_key: Secret | None = None
    assertion_key_id: str = Field(default="", max_length=200)
    assertion_issuer: str = Field(default="", max_length=2_000)
    assertion_audience: str = Field(default="", max_length=2_000)
    audience: str = Field(default="", max_length=2_000)
    listing: Literal["", "node", "client"] = ""

    @model_validator(mode="after")
    def _has_a_subject(self) -> TokenExchangeAuth:
        if self.subject == "assertion":
            if self.assertion_key is None:
                raise ValueError("'subject: assertion' needs 'assertion_key', which signs this node's word")
            _check_key(self.assertion_key, "assertion_key")
            if self.assertion_audience and not (self.issuer or self.token_url):
                # Otherwise the server could name an authorization server of its own, which is given a word that is good
                # at the one of that audience, for whoever calls.
                raise ValueError(
                    "'assertion_audience' says for whom this node's word is: say who is given it, by 'issuer' or "
                    "'token_url'"
                )
        else:
            given = [f for f in ("assertion_key", "assertion_issuer", "assertion_audience") if getattr(self, f)]
            if given:
                raise ValueError(f"{given[0]!r} would have no effect with 'subject: token'; remove it")
            if not (self.issuer or self.token_url):
                raise ValueError(
                    "'subject: token' gives callers' tokens to one authorization server: say which, by 'issuer' or "
                    "'token_url'"
                )
            if self.listing == "node":
                raise ValueError("'listing: node' needs an assertion; with 'subject: token' it is 'client'")
        return self

    @property
    def lists_as(self) -> Literal["node", "client"]:
        return self.listing or ("node" if self.subject == "assertion" else "client")


KINDS = ("client_credentials", "token_exchange", "authorization_code")


def _kind(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if kind in KINDS else None


# By a function: every field of a Section has a validator before it, which pydantic's own way does not take.
UpstreamAuth = Annotated[
    Annotated[ClientCredentialsAuth, Tag(KINDS[0])]
    | Annotated[TokenExchangeAuth, Tag(KINDS[1])]
    | Annotated[AuthorizationCodeAuth, Tag(KINDS[2])],
    Discriminator(
        _kind, custom_error_type="auth_kind", custom_error_message=f"needs a 'kind', one of {', '.join(KINDS)}"
    ),
]


def _check_key(value: SecretStr, name: str) -> None:
    from node.credentials.client_auth import SigningKey
    from proto.errors import Invalid

    try:
        SigningKey(value.get_secret_value())
    except Invalid as e:
        raise ValueError(f"{name!r} {e.message}") from None


def check_auth(server: ServerConfig) -> None:
    """What must hold between a server's `auth` and its other settings. Raises `ValueError`."""
    auth = server.auth
    if auth is None:
        return
    if not server.url:
        raise ValueError("'auth' is for a 'url'; a 'command' takes its secrets from 'env'")
    if any(name.lower() == "authorization" for name in server.headers):
        raise ValueError("'headers' has an Authorization that 'auth' would replace; keep one of them")
    host = urlsplit(server.url).hostname or ""
    if urlsplit(server.url).scheme in ("http", "ws") and not is_loopback(host):
        raise ValueError("'auth' would send tokens over a connection without TLS; write https:// (or wss://)")
    if auth.kind != "client_credentials":
        if server.sessions == "shared":
            raise ValueError(f"'sessions: shared' cannot be with 'auth: {auth.kind}', which tells callers apart")
        if server.sessions_max == 0:
            raise ValueError(f"'sessions_max: 0' cannot be with 'auth: {auth.kind}': each caller has its own session")


def upstream_auth_rules(config: NodeConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Broken ones, as in rules.py."""
    for section in ("servers", "catalogue"):
        servers: dict[str, ServerConfig] = getattr(config, section)
        for name, server in servers.items():
            if server.auth is not None and server.auth.kind == "authorization_code" and config.secrets.key is None:
                yield (
                    ("secrets", "key"),
                    f"is missing: what people agree to for {name!r} is kept encrypted under it; 'toolmesh secrets "
                    "key' makes one",
                )
