"""API keys: who a caller is, by the SHA-256 of the key that it shows, and which servers that key may see and use."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from node.guard.globs import pattern_of
from node.ports import Action, Admission, Credentials, Ended, Resource, Visibility
from proto.calls import Answer, Call
from proto.errors import Forbidden, Unauthenticated
from proto.names import qualified
from proto.records import Decision, Principal

EVERY_SERVER = ("*",)
GLOBS_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`digest` is SHA-256 of the key's UTF-8 text (32 bytes); `servers` are globs over bare or qualified names."""

    name: str
    digest: bytes
    tenant: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    servers: tuple[str, ...] = EVERY_SERVER

    def principal(self, mesh: str) -> Principal:
        return Principal(self.name, mesh, self.tenant, self.groups, self.scopes, "key")


class KeyAuthenticator:
    """A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`; `mesh` becomes the principal's issuer."""

    def __init__(self, keys: Sequence[ApiKey], mesh: str) -> None:
        self._known = tuple((key.digest, key.principal(mesh)) for key in keys)

    async def authenticate(self, credentials: Credentials) -> Principal:
        shown = {secret for secret in (credentials.bearer, credentials.api_key) if secret}
        if len(shown) > 1:
            raise Unauthenticated("two different keys were shown; send one, as 'Authorization: Bearer KEY'")
        found: Principal | None = None
        for secret in shown:
            digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
            # Every key is compared, so that the time taken tells nothing about which one matched.
            for known, principal in self._known:
                if hmac.compare_digest(known, digest):
                    found = principal
        if found is None:
            # The same words whether no key, a wrong one or another scheme was shown.
            raise Unauthenticated("a valid key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        return found

    def valid(self, principal: Principal) -> bool:
        return True

    def principals(self) -> Mapping[str, Principal]:
        return {principal.subject: principal for _, principal in self._known}

    def __repr__(self) -> str:
        return f"KeyAuthenticator({len(self._known)} keys)"


@dataclass(frozen=True, slots=True)
class ServerGlobs:
    """Lets through the servers whose bare or qualified name matches one of the globs; none match nothing."""

    globs: tuple[str, ...]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, globs: Sequence[str]) -> ServerGlobs:
        unique = tuple(sorted(set(globs)))
        return cls(unique, pattern_of(unique))

    @property
    def key(self) -> Hashable:
        return ("servers", self.globs)

    def allows(self, resource: Resource) -> bool:
        match = self.pattern.match
        return bool(match(resource.server) or match(qualified(resource.server, resource.owner)))


_NOTHING = ServerGlobs.of(())


class KeyGuard:
    """Which servers a principal may see and use on this node, whoever vouched for it.

    A key of this node's own configuration decides for the principal of its name, wherever it entered the mesh. Other
    principals were authenticated by peers of the same trust domain (here every caller shows a key): `peers` says what
    they see. Principals of another issuer, or that bear a key's name and another tenant, see nothing.
    """

    def __init__(self, keys: Sequence[ApiKey], mesh: str, peers: Sequence[str] = EVERY_SERVER) -> None:
        self._mesh = mesh
        self._keys = {key.name: (key, ServerGlobs.of(key.servers)) for key in keys}
        self._peers = ServerGlobs.of(peers)

    def visible(self, principal: Principal, action: Action) -> Visibility:
        return self._decide(principal)[0]

    def explain(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        globs, rule = self._decide(principal)
        if globs.allows(resource):
            return Decision(allowed=True, rule=rule)
        shown = ", ".join(globs.globs[:GLOBS_SHOWN_MAX]) + ", …" * (len(globs.globs) > GLOBS_SHOWN_MAX)
        return Decision(allowed=False, rule=rule, reason=f"{rule} lets through {shown or 'no server'}")

    def may(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        if action is Action.ADMINISTER:
            allowed = "operator" in principal.scopes
            return Decision(allowed, "" if allowed else "the scope 'operator' is missing", "operator")
        return self.explain(principal, action, resource)

    async def admit(self, call: Call, *resources: Resource) -> Admission:
        visibility, rule = self._decide(call.principal)
        allowed = tuple(r for r in resources if visibility.allows(r))
        if not allowed:
            refused = Forbidden(f"{call.principal.subject!r} may not use server {call.server!r} by {rule}")
            refused.rule = rule
            raise refused
        return Admission(call, Decision(allowed=True, rule=rule), allowed)

    async def result(self, call: Call, answer: Answer) -> Answer:
        return answer

    def settle(self, call: Call, ended: Ended) -> None:
        return

    def _decide(self, principal: Principal) -> tuple[ServerGlobs, str]:
        if principal.kind == "anonymous":
            return self._peers, "auth.peers"
        if principal.issuer != self._mesh:
            return _NOTHING, "foreign issuer"
        entry = self._keys.get(principal.subject) if principal.kind == "key" else None
        if entry is None:
            return self._peers, "auth.peers"
        key, globs = entry
        if key.tenant != principal.tenant:
            return _NOTHING, f"auth.keys {key.name!r}: other tenant"
        return globs, f"auth.keys {key.name!r}"

    def __repr__(self) -> str:
        return f"KeyGuard({len(self._keys)} keys, peers {','.join(self._peers.globs) or 'nothing'})"
