"""Which servers a caller's credential reaches at all: the globs of its key, or those for callers of peers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from node.guard.governed import Governed, KeyRecord
from node.guard.keys import EVERY_SERVER, GLOBS_SHOWN_MAX, ApiKey, ServerGlobs
from node.ports import Resource
from proto.records import Decision, Principal


class Reach(NamedTuple):
    """All of the `globs` must let a server through; `rule` is where they are written."""

    globs: tuple[ServerGlobs, ...]
    rule: str

    def refuses(self, resource: Resource) -> Decision | None:
        for globs in self.globs:
            if not globs.allows(resource):
                shown = ", ".join(globs.globs[:GLOBS_SHOWN_MAX]) + ", …" * (len(globs.globs) > GLOBS_SHOWN_MAX)
                return Decision(False, f"{self.rule} lets through {shown or 'no server'}", self.rule)
        return None


_EVERYTHING = ServerGlobs.of(EVERY_SERVER)
_NOTHING = ServerGlobs.of(())


@dataclass(frozen=True, slots=True)
class Reaches:
    """What this node's configuration says about callers.

    A key of this node's own configuration, or of governance, decides for the principal of its name, wherever it entered
    the mesh. Others were authenticated here (`issuers`, `users`, certificates), or by peers of this trust domain, whose
    callers reach what `peers` lets through. `open`: nobody has to say here who he is, and whoever came in here
    reaches everything (see `from_peer`).
    """

    mesh: str
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    peers: ServerGlobs = _EVERYTHING
    issuers: Collection[str] = frozenset()
    users: Collection[str] = frozenset()
    open: bool = False

    @classmethod
    def of(
        cls,
        mesh: str,
        keys: Sequence[ApiKey] = (),
        peers: Sequence[str] = EVERY_SERVER,
        issuers: Collection[str] = (),
        users: Collection[str] = (),
        *,
        open: bool = False,
    ) -> Reaches:
        named = {key.name: key for key in keys}
        return cls(mesh, named, ServerGlobs.of(peers), frozenset(issuers), frozenset(users), open)

    def from_peer(self, resource: Resource) -> Decision | None:
        """Why a call that a peer has sent is out of the question here, where it came from being all that tells its
        caller from this node's own."""
        return Reach((self.peers,), "auth.peers").refuses(resource) if self.open else None

    def reach(self, principal: Principal, governed: Mapping[str, KeyRecord]) -> Reach:
        """`governed` are the keys of governance, by name."""
        if principal.kind == "key":
            held = [k for k in (self.keys.get(principal.subject), governed.get(principal.subject)) if k is not None]
            if principal.issuer != self.mesh and (held or not self.open):
                return Reach((_NOTHING,), "foreign issuer")
            if held:
                rule = f"auth.keys {principal.subject!r}" if principal.subject in self.keys else "governed key"
                mine = [k for k in held if k.tenant == principal.tenant]
                if not mine:
                    return Reach((_NOTHING,), f"{rule}: other tenant")
                return Reach(tuple(ServerGlobs.of(k.servers) for k in mine), rule)
        if self.open:
            return Reach((), "open")
        if principal.kind != "anonymous" and principal.issuer != self.mesh:
            # The issuer of a token is an address. A bare name is another mesh.
            if principal.issuer in self.issuers:
                return Reach((), "auth.issuers")
            if "://" not in principal.issuer:
                return Reach((_NOTHING,), "foreign issuer")
        if principal.kind == "user" and principal.issuer == self.mesh and principal.subject in self.users:
            return Reach((), "auth.users")
        return Reach((self.peers,), "auth.peers")


def keys_by_name(governed: Governed) -> dict[str, KeyRecord]:
    return {key.name: key for key in governed.keys.values()}
