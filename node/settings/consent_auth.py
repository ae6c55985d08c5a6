"""How this node gets tokens that a person agreed to: `servers.X.auth` of kind `authorization_code`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from node.settings.issuers import OptionalProtectedUrl
from node.settings.values import Secret, Section, is_loopback

if TYPE_CHECKING:
    from node.config import NodeConfig


class AuthorizationCodeAuth(Section):
    """Each principal signs in to the server itself, once, in a browser (OAuth 2.1 with PKCE).

    `client_id` (with `client_secret`, if the client has one) is a client registered by hand. Without it
    `registration` says how this node makes itself known: `document` by a client id metadata document, which the
    authorization server must be able to fetch from `http.public_url`; `dynamic` by RFC 7591; `auto` by the former
    where both sides can, else by the latter. `issuer` pins the authorization server; without it the server's own
    metadata (RFC 9728) names it, which is why a secret needs it. `scopes` are what is asked for; without them, what the
    server demands.
    """

    kind: Literal["authorization_code"]
    client_id: str = Field(default="", max_length=2_000)
    client_secret: Secret | None = None
    client_auth: Literal["", "client_secret_basic", "client_secret_post"] = ""
    registration: Literal["auto", "document", "dynamic"] = "auto"
    issuer: OptionalProtectedUrl = Field(default="", max_length=2_000)
    scopes: tuple[str, ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def _one_client(self) -> AuthorizationCodeAuth:
        if self.client_secret is not None and not self.client_id:
            raise ValueError("'client_secret' is the secret of a client that 'client_id' names; give both")
        if self.client_secret is not None and not self.issuer:
            raise ValueError(
                "'client_secret' needs 'issuer': a server that named another one would be shown the secret"
            )
        if self.client_auth and self.client_secret is None:
            raise ValueError("'client_auth' says how a client_secret is shown; there is none")
        if self.client_id and self.registration != "auto":
            raise ValueError(f"'registration: {self.registration}' is for a client without 'client_id'; drop one")
        return self

    @property
    def secret(self) -> str:
        return self.client_secret.get_secret_value() if isinstance(self.client_secret, SecretStr) else ""


def consent_rules(config: NodeConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Broken ones, as in rules.py: where browsers find the pages at which people agree."""
    servers = {**config.catalogue, **config.servers}
    asking = [name for name, one in servers.items() if one.auth is not None and one.auth.kind == "authorization_code"]
    if not asking:
        return
    http = config.http
    if not http.public_url and not is_loopback(http.host):
        yield (
            ("http", "public_url"),
            f"is missing: it is where people are sent to agree to what {asking[0]!r} may do for them; give the "
            "https:// address by which browsers reach this node",
        )
    elif urlsplit(http.public_url).path:
        yield (
            ("http", "public_url"),
            f"has a path, but the pages at which people agree to what {asking[0]!r} may do for them are at /oauth; "
            "give this node a host name of its own",
        )
