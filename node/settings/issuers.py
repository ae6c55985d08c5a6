"""Authorization servers whose tokens are taken, and how each of them is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from node.settings.values import FilePath, Secret, Section, http_url, is_loopback

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Those with a public key: whoever can check a token must not be able to make one."""

Scope = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$")]
"""RFC 6749 §3.3, scope-token."""

ClaimName = Annotated[str, Field(max_length=200)]


def protected_url(value: str) -> str:
    """An https URL, or an http one of this machine, without query, fragment and credentials. Raises ValueError."""
    parts = http_url(value)
    if parts is None:
        raise ValueError(f"{value!r} is not a URL like https://login.example.org, without query and credentials")
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"{value!r} is not protected: whoever is on the way could make tokens; write https://")
    return value


def protected_url_or_empty(value: str) -> str:
    return protected_url(value) if value else value


ProtectedUrl = Annotated[str, AfterValidator(protected_url)]
OptionalProtectedUrl = Annotated[str, AfterValidator(protected_url_or_empty)]


class ClaimsConfig(Section):
    """Which claim of a token says what; an empty name: none does."""

    subject: ClaimName = Field(default="sub", min_length=1)
    tenant: ClaimName = ""
    groups: ClaimName = "groups"
    scopes: ClaimName = "scope"


class IntrospectionConfig(Section):
    """Tokens are asked for one by one (RFC 7662). Without `url` the issuer's metadata says where.

    `auth`: how `client_id` and `client_secret` are sent, in the Authorization header or in the form.
    """

    url: OptionalProtectedUrl = ""
    client_id: str = Field(min_length=1, max_length=400)
    client_secret: Secret
    auth: Literal["basic", "post"] = "basic"


class LoginConfig(Section):
    """The client that this node is at the issuer, for people who sign in with a browser."""

    client_id: str = Field(min_length=1, max_length=400)
    client_secret: Secret | None = None
    scopes: tuple[Scope, ...] = ("openid",)


class IssuerConfig(Section):
    """One issuer. `issuer` is compared with a token's `iss` character by character.

    Its keys come from the file `jwks`, else from `jwks_url`, else from where its metadata says: at `discovery`, or at
    the well-known addresses of the issuer (RFC 8414, OpenID Connect). With `introspection` it is asked instead.

    `audiences`: one of them must be in the token; without, `http.public_url` and what stands under it. `tenant` is
    everybody's; without it a token must have the claim that `claims.tenant` names, if that names one. A token without
    all `required_scopes` is refused by naming them.
    """

    issuer: ProtectedUrl
    audiences: tuple[Annotated[str, Field(min_length=1, max_length=400)], ...] = Field(default=(), max_length=100)
    jwks: FilePath | None = None
    jwks_url: OptionalProtectedUrl = ""
    discovery: OptionalProtectedUrl = ""
    introspection: IntrospectionConfig | None = None
    algorithms: tuple[Algorithm, ...] = Field(default=("RS256", "PS256", "ES256", "EdDSA"), min_length=1)
    claims: ClaimsConfig = ClaimsConfig()
    tenant: str = Field(default="", max_length=64)
    kind: Literal["user", "service"] = "user"
    clock_skew_s: int = Field(default=30, ge=0, le=300)
    required_scopes: tuple[Scope, ...] = Field(default=(), max_length=100)
    login: LoginConfig | None = None
