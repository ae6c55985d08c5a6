"""The one place that says who is calling, whatever was presented: key, token, password or certificate."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from federation.alarms import Raised
from node.credentials.single_flight import SingleFlight
from node.doors.addresses import Addresses
from node.guard.governed import Governance, Governed
from node.identity import jose
from node.identity.audience import Audience
from node.identity.certificates import Certificates, thumbprint
from node.identity.claims import Verified, refused
from node.identity.keys import PREFIX, KeyRing, digest_of
from node.identity.memory import Memory
from node.identity.users import Users
from node.ports import Credentials, ProofEnded
from proto.errors import Invalid, ScopeRequired, Unauthenticated
from proto.records import ANONYMOUS, Principal

if TYPE_CHECKING:
    from node.identity.issuer import Issuer

TOKENS_MAX = 10_000
INTROSPECTED_S = 60.0
"""What an issuer said of a token is believed for so long, and for the token's life at most."""
PROVED_S = 600.0
"""A signature likewise: its issuer may take the key back, and the token may name any end."""

Keep = Callable[[Principal, str], None]

_ENDED = "the credential has expired; get a new one"


class Chain:
    """Every credential of a request is looked at; two that stand for different callers are refused.

    `required`: nobody is anonymous. Else whoever shows nothing that is known here is, as on a machine of one's own.
    `keep` is told each bearer token that was admitted here and its principal, for exchange at other servers.
    """

    def __init__(
        self,
        *,
        keys: KeyRing,
        users: Users,
        certificates: Certificates,
        issuers: Sequence[Issuer],
        audience: Audience,
        governance: Governance,
        required: bool,
        keep: Keep | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._users = users
        self._certificates = certificates
        self._issuers = {issuer.config.issuer: issuer for issuer in issuers}
        self._opaque = next((issuer for issuer in issuers if issuer.takes_opaque), None)
        self._audience = audience
        self._governance = governance
        self._required = required
        self._keep = keep
        self._now_s = now_s
        self._tokens: Memory[Verified] = Memory(TOKENS_MAX)
        self._proving: SingleFlight[Verified] = SingleFlight()
        self._needed = _needed(bool(users), bool(certificates), bool(issuers))
        governance.subscribe(self._changed)

    def __repr__(self) -> str:
        parts = [self._keys, self._users, self._certificates, *self._issuers.values()]
        asked = "required" if self._required else "anonymous too"
        return f"Chain({asked}: {', '.join(map(repr, filter(None, parts)))}, {self._tokens!r})"

    async def authenticate(self, credentials: Credentials) -> Principal:
        try:
            found = await self._found(credentials)
            if not found:
                if not self._required:
                    return ANONYMOUS
                # The same words whether nothing was shown or what nobody knows.
                raise self._unproved("it is not known here" if _shown(credentials) else "nothing was shown")
            for principal, networks in found:
                self._admit(principal, credentials, networks)
            principal = found[0][0]
            if self._keep is not None and credentials.bearer and principal.issuer in self._issuers:
                self._keep(principal, credentials.bearer)
            return principal
        except Unauthenticated as e:
            if _shown(credentials):
                e.data["presented"] = True
            raise

    def valid(self, principal: Principal) -> bool:
        return self._refusal(principal) is None

    def principals(self) -> Mapping[str, Principal]:
        return {**self._users.principals(), **self._keys.principals(), **({} if self._required else _NOBODY)}

    @property
    def alarms(self) -> tuple[Raised, ...]:
        """Issuers that cannot be reached."""
        return tuple(raised for issuer in self._issuers.values() for raised in issuer.alarms)

    async def close(self) -> None:
        """Ends what is asked of issuers and takes no more."""
        await self._proving.close()
        self._users.close()
        for issuer in self._issuers.values():
            await issuer.close()

    # ---- one request ----------------------------------------------------------------------------

    async def _found(self, credentials: Credentials) -> list[tuple[Principal, tuple[str, ...]]]:
        """By each credential who it is, and the networks (CIDR) that it may come from; empty where nothing is known.

        Raises `Unauthenticated` for two callers at once, and where a token or one of several credentials is wrong.
        """
        found: list[tuple[Principal, tuple[str, ...]] | None] = []
        bound = False
        if credentials.bearer:
            digest = digest_of(credentials.bearer)
            key = self._key(digest)
            if key is None and self._issuers:
                token = await self._token(credentials.bearer, digest, credentials)
                bound = bool(token.thumbprint)
                key = (token.principal, ())
            found.append(key)
        if credentials.api_key and credentials.api_key != credentials.bearer:
            found.append(self._key(digest_of(credentials.api_key)))
        if credentials.basic:
            user = await self._users.find(credentials.basic)
            found.append(None if user is None else (user, ()))
        # A certificate that a token is bound to says whose token it is, not who else is there.
        if credentials.certificate and self._certificates and not bound:
            owner = self._certificates.find(credentials.certificate)
            # One that no entry takes proves the machine and nobody: the other credentials speak.
            found += [(owner, ())] if owner is not None else []
        known = [one for one in found if one is not None]
        if known and len(known) < len(found):
            raise Unauthenticated("several credentials were shown, and not all of them are valid; send one")
        if len(known) > 1 and len({principal.identity for principal, _ in known}) > 1:
            raise Unauthenticated("credentials of different callers were shown; send those of one")
        return known

    def _key(self, digest: bytes) -> tuple[Principal, tuple[str, ...]] | None:
        found = self._keys.find(digest)
        return None if found is None else (found[1], found[0].addresses)

    async def _token(self, bearer: str, digest: bytes, credentials: Credentials) -> Verified:
        """A token of one of the issuers. Raises `Unauthenticated`, `ScopeRequired` or `Unavailable`."""
        token = self._tokens.get(digest, self._now_s())
        if token is None:
            # An agent's first calls come together.
            token = await self._proving.run(digest, lambda: self._proved(bearer, digest))
        issuer = self._issuers[token.principal.issuer].config
        if not self._audience.takes(token.audiences, issuer.audiences, credentials.resource):
            raise refused("it is not for this server ('aud'); ask the issuer for one with this resource")
        if token.thumbprint and token.thumbprint != thumbprint(credentials.certificate):
            raise refused("it is bound to a client certificate that was not shown")
        if token.missing:
            raise ScopeRequired(
                f"this needs a token with {' '.join(issuer.required_scopes)}", scopes=list(token.missing)
            )
        return token

    async def _proved(self, bearer: str, digest: bytes) -> Verified:
        signed = None
        # By the exact `iss`, before any key is looked at: no token chooses whose keys it is held against.
        issuer = self._opaque
        if jose.looks_signed(bearer):
            try:
                signed = jose.parse(bearer)
            except Invalid as e:
                raise refused(e.message) from None
            issuer = self._issuers.get(signed.issuer)
        elif bearer.startswith(PREFIX):
            # A key that is over, or another node's: nobody's business but ours.
            issuer = None
        if issuer is None:
            raise self._unproved("it is no key that counts here, and of no issuer that is configured")
        # Of a signed one without its signature: from one of ECDSA anybody can make a second (r, n - s), under which a
        # token that is revoked must not come back.
        named = digest if signed is None else hashlib.sha256(signed.signed).digest()
        token = await issuer.verified(bearer, signed, f"token/{named.hex()[:16]}")
        believed_s = INTROSPECTED_S if issuer.takes_opaque else PROVED_S
        self._tokens.put(digest, token, min(float(token.principal.expires_s), self._now_s() + believed_s))
        return token

    # ---- does it count now? ---------------------------------------------------------------------

    def _admit(self, principal: Principal, credentials: Credentials, networks: tuple[str, ...]) -> None:
        """Raises `Unauthenticated` where it counts no longer, or not from this address."""
        if (why := self._refusal(principal)) is not None:
            raise ProofEnded(why) if why is _ENDED else self._unproved(why)
        tenant = self._governance.state.tenants.get(principal.tenant)
        for allowed in (networks, tenant.addresses if tenant is not None else ()):
            if allowed and not _admits(allowed, credentials.peer):
                # As for a key that does not exist: its holder learns elsewhere where it may be used from.
                raise self._unproved(f"{principal.credential} may not be used from this address")

    def _unproved(self, why: str) -> Unauthenticated:
        """The same words to every caller; `why` is for the audit alone."""
        error = Unauthenticated(self._needed)
        error.rule = why
        return error

    def _refusal(self, principal: Principal) -> str | None:
        """Why what proved it does not count; None: it does."""
        if principal.expires_s and self._now_s() >= principal.expires_s:
            return _ENDED
        state = self._governance.state
        if state.revoked and state.revocation(principal.credential, principal.issuer, principal.subject) is not None:
            return f"{principal.credential} is revoked"
        if state.tenants_governed and principal.tenant and principal.tenant not in state.tenants:
            return f"{principal.credential} is of tenant {principal.tenant!r}, which there is not"
        return None

    def _changed(self, _: Governed) -> None:
        self._tokens.keep(lambda token: self.valid(token.principal))


_NOBODY = {ANONYMOUS.subject: ANONYMOUS}


@lru_cache(maxsize=1_024)
def _addresses(networks: tuple[str, ...]) -> Addresses | None:
    try:
        return Addresses.of(networks)
    except ValueError:
        return None


def _admits(networks: tuple[str, ...], address: str) -> bool:
    """What an authority has laid down and nobody can read admits no one."""
    addresses = _addresses(networks)
    return addresses is not None and addresses.admits(address)


def _shown(credentials: Credentials) -> bool:
    return bool(credentials.bearer or credentials.api_key or credentials.basic)


def _needed(users: bool, certificates: bool, issuers: bool) -> str:
    """What a caller is told who is nobody here: which ways there are, never whether something exists."""
    if issuers:
        return "a valid token is needed: send 'Authorization: Bearer TOKEN'"
    ways = "'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    if users:
        ways += ", or a name and password as 'Authorization: Basic'"
    if certificates:
        ways += ", or use a client certificate"
    return f"a valid key is needed: send {ways}"
