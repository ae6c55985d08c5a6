"""One issuer of tokens: how a token of its is proved, by its keys or by asking it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from federation.alarms import Raised
from node.identity import jose, jwks
from node.identity.claims import Verified, refused, verified
from node.identity.introspection import Introspection
from node.identity.jose import SignedToken
from node.identity.key_source import KeySource
from node.identity.metadata import endpoint, metadata_of
from node.outbound.outbound import Outbound
from node.outbound.session import OutboundSession
from node.settings.issuers import IssuerConfig
from proto.errors import Invalid, Unavailable

JWKS_BYTES_MAX = 256 * 1024
TIMEOUT_S = 5.0


class Issuer:
    """Dials nothing before the first token comes. Close it."""

    def __init__(self, config: IssuerConfig, outbound: Outbound, now_s: Callable[[], float] = time.time) -> None:
        self.config = config
        self._outbound = outbound
        self._now_s = now_s
        self._http: OutboundSession | None = None
        self._keys = KeySource(config.issuer, self._fetch_keys)
        asked = config.introspection
        self._introspection = None if asked is None else Introspection(config.issuer, asked, self._at)

    def __repr__(self) -> str:
        how = repr(self._introspection or self._keys)
        return f"Issuer({self.config.issuer}, {how})"

    @property
    def alarms(self) -> tuple[Raised, ...]:
        return (self._introspection or self._keys).trouble.alarms

    @property
    def takes_opaque(self) -> bool:
        return self._introspection is not None

    async def verified(self, token: str, signed: SignedToken | None, credential: str) -> Verified:
        """Raises `Unauthenticated` that says what is wrong, or `Unavailable` where it cannot be found out now."""
        if self._introspection is not None:
            claims = await self._introspection.ask(token, self.http)
            if claims.get("iss", self.config.issuer) != self.config.issuer:
                raise refused("its issuer says that another has issued it")
        else:
            claims = await self._proved(signed)
        return verified(claims, self.config, credential, self._now_s())

    async def close(self) -> None:
        self._keys.close()
        if self._http is not None:
            await self._http.close()

    @property
    def http(self) -> OutboundSession:
        if self._http is None:
            config, asked = self.config, self.config.introspection
            written = (config.issuer, config.jwks_url, config.discovery, asked.url if asked else "")
            self._http = self._outbound.session(
                f"issuer {config.issuer}",
                allow=[url for url in written if url],
                timeout_s=TIMEOUT_S,
                bytes_max=JWKS_BYTES_MAX,
            )
        return self._http

    async def _proved(self, signed: SignedToken | None) -> Mapping[str, Any]:
        if signed is None:
            raise refused("it is not a JWT")
        if signed.algorithm not in self.config.algorithms:
            raise refused(f"its issuer's tokens are signed with {', '.join(self.config.algorithms)} only")
        if not any(key.proves(signed) for key in await self._keys.fitting(signed.kid, signed.algorithm)):
            raise refused("no key of its issuer has signed it")
        return signed.claims

    async def _fetch_keys(self) -> tuple[jwks.PublicKey, ...]:
        config = self.config
        if config.jwks is not None:
            return await asyncio.to_thread(keys_in, config.jwks)
        url = config.jwks_url or await self._at("jwks_uri")
        answer = await self.http.get(url, {"Accept": "application/json"})
        if answer.status != 200:
            raise Unavailable(f"{url} answered {answer.status}")
        try:
            return jwks.keys_of(jose.strict_object(answer.body, url))
        except Invalid as e:
            raise Unavailable(f"{url}: {e.message}") from None

    async def _at(self, name: str) -> str:
        """An address that its metadata names, read anew: an issuer may move."""
        return endpoint(await metadata_of(self.config.issuer, self.config.discovery, self.http), name)


def keys_in(file: Path) -> tuple[jwks.PublicKey, ...]:
    """The keys of a file that holds a JWK Set. Raises `Invalid` naming the file."""
    try:
        with file.open("rb") as f:
            raw = f.read(JWKS_BYTES_MAX + 1)
    except OSError as e:
        raise Invalid(f"{file} cannot be read: {e.strerror or e}") from None
    if len(raw) > JWKS_BYTES_MAX:
        raise Invalid(f"{file} is larger than {JWKS_BYTES_MAX} bytes; a JWK Set is expected")
    try:
        return jwks.keys_of(jose.strict_object(raw, "the JWK Set"))
    except Invalid as e:
        raise Invalid(f"{file}: {e.message}") from None
