"""People and machines that prove themselves by a password or by a certificate of TLS."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from node.identity.passwords import PasswordHash
from node.settings.issuers import Scope
from node.settings.values import Section, read_secret_env, read_secret_file
from proto.errors import Invalid


def _hash(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(
            "must be one of {scrypt: HASH}, {file: PATH} and {env: VARIABLE}; 'toolmesh key password' makes the hash"
        )
    (how, what), *_ = value.items()
    if not isinstance(what, str):
        raise ValueError(f"{how} must be text")
    match how:
        case "scrypt":
            return what
        case "file":
            return read_secret_file(what, info)
        case "env":
            return read_secret_env(what)
    raise ValueError(
        f"{how!r} is not known; give one of scrypt, file and env, each with a hash of 'toolmesh key password'"
    )


class UserConfig(Section):
    """Somebody who sends `Authorization: Basic`. `password` is a scrypt hash, never the password itself."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")
    password: Annotated[str, BeforeValidator(_hash)] = Field(repr=False)
    tenant: str = Field(default="", max_length=64)
    groups: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()

    @field_validator("password")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            PasswordHash.parse(value)
        except Invalid as e:
            raise ValueError(e.message) from None
        return value


class CertificateConfig(Section):
    """Client certificates (`http.tls.client_ca`) whose name matches the glob `subject`, and what they may be.

    A certificate's names are its URIs, then its DNS names, then its common name: `uri:spiffe://example.org/agent/a`,
    `dns:a.example.org`, `cn:a`. The first entry that matches one of them counts, and the name is the caller's subject.
    """

    subject: str = Field(max_length=400)
    kind: Literal["service", "user"] = "service"
    tenant: str = Field(default="", max_length=64)
    groups: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()

    @field_validator("subject")
    @classmethod
    def _kind_of_name(cls, value: str) -> str:
        kind, _, name = value.partition(":")
        if kind not in ("uri", "dns", "cn") or not name:
            raise ValueError(f"{value!r} does not say which kind of name it is: write uri:…, dns:… or cn:…")
        return value
