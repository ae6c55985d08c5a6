"""Who may call: API keys known by their SHA-256, and what principals vouched for by peers may see here."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from node.settings.doors import NetworkTexts
from node.settings.issuers import IssuerConfig, Scope
from node.settings.people import CertificateConfig, UserConfig
from node.settings.values import Section, read_secret_env, read_secret_file
from node.settings.weak import weak_digest, weakness

KEY_CHARACTERS_MIN = 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCES = ("sha256", "file", "env")


class KeyConfig(Section):
    """One API key. `servers` are globs over server names, bare or qualified (`NAME--NODE`).

    It counts until `expires` (UTC unless it names a zone), and from `addresses` only, if any are given.

    A key is given by `sha256` (hex of its UTF-8 text), or by `file` or `env` holding the key itself: whichever it
    was, only the digest is kept, in `sha256`.
    """

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")
    sha256: str = Field(default="", repr=False)
    file: str = ""
    env: str = ""
    tenant: str = Field(default="", max_length=64)
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    servers: tuple[str, ...] = ("*",)
    expires: datetime | None = None
    addresses: NetworkTexts = ()

    @model_validator(mode="before")
    @classmethod
    def _digest(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        given = [s for s in _SOURCES if data.get(s)]
        # With a key that does not belong here, that one is what is wrong: let it be named.
        if len(given) != 1 and data.keys() <= cls.model_fields.keys():
            found = " and ".join(given) if given else "none"
            raise ValueError(f"needs exactly one of sha256, file and env; found {found}. 'toolmesh key new' makes one")
        if given not in (["file"], ["env"]) or not isinstance(data[given[0]], str):
            return data
        how, where = given[0], data[given[0]]
        key = read_secret_file(where, info) if how == "file" else read_secret_env(where)
        if len(key) < KEY_CHARACTERS_MIN:
            raise ValueError(f"the key is shorter than {KEY_CHARACTERS_MIN} characters and could be guessed")
        if why := weakness(key):
            raise ValueError(f"the key {why}; 'toolmesh key new' makes one")
        return {**data, "sha256": hashlib.sha256(key.encode()).hexdigest()}

    @field_validator("sha256")
    @classmethod
    def _hex_digest(cls, value: str) -> str:
        value = value.lower()
        if value and not _SHA256.fullmatch(value):
            raise ValueError("is not a SHA-256 in hex (64 digits); 'toolmesh key new' prints one")
        if why := weak_digest(value):
            raise ValueError(f"{why}; 'toolmesh key new' makes a key")
        return value

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key, 32 bytes."""
        return bytes.fromhex(self.sha256)

    @property
    def expires_s(self) -> int:
        """Unix seconds; 0: never."""
        if self.expires is None:
            return 0
        at_s = int((self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)).timestamp())
        # The first moment of all is long past as well, and is not "never".
        return max(1, at_s)


class PeersConfig(Section):
    """What callers that other nodes of this mesh vouch for may see here, unless a key of their name says otherwise."""

    servers: tuple[str, ...] = ("*",)


class AuthSection(Section):
    """`required`: nobody is anonymous; so it is where any way to prove oneself is configured, unless it says otherwise.

    `scopes` are announced to clients beside those that issuers require (RFC 9728, `scopes_supported`).
    """

    keys: tuple[KeyConfig, ...] = Field(default=(), max_length=10_000)
    users: tuple[UserConfig, ...] = Field(default=(), max_length=1_000)
    issuers: tuple[IssuerConfig, ...] = Field(default=(), max_length=100)
    certificates: tuple[CertificateConfig, ...] = Field(default=(), max_length=1_000)
    scopes: tuple[Scope, ...] = Field(default=(), max_length=1_000)
    required: bool | None = None
    peers: PeersConfig = PeersConfig()

    @property
    def ways(self) -> list[str]:
        """The ways to prove oneself that are configured, as an operator calls them."""
        named = (
            ("keys", self.keys),
            ("users", self.users),
            ("issuers", self.issuers),
            ("certificates", self.certificates),
        )
        return [name for name, given in named if given]

    @property
    def demanded(self) -> bool:
        return bool(self.ways) if self.required is None else self.required
