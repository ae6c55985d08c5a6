"""The shared facts: what a node says about itself and its servers, and at which version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from proto import jsons
from proto.errors import Invalid


class Kind(StrEnum):
    NODE = "node"
    SERVER = "server"
    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    TEMPLATE = "template"
    POLICY = "policy"
    PIN = "pin"
    QUARANTINE = "quarantine"
    REVOCATION = "revocation"
    KEY = "key"
    TENANT = "tenant"
    VIRTUAL = "virtual"


GOVERNANCE: frozenset[Kind] = frozenset(
    {Kind.POLICY, Kind.PIN, Kind.QUARANTINE, Kind.REVOCATION, Kind.KEY, Kind.TENANT, Kind.VIRTUAL}
)
"""Kinds accepted only from owners whose certificate carries the role `authority`."""

MEMBERS: frozenset[Kind] = frozenset({Kind.TOOL, Kind.PROMPT, Kind.RESOURCE, Kind.TEMPLATE})
"""Kinds that belong to a server; their ids read SERVER/NAME."""


class RecordKey(NamedTuple):
    """What names a record within its owner's view."""

    kind: Kind
    id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One fact of one owner.

    `body` is a JSON object as bytes, in the member order that the owner was given; for the kinds of a server's
    members it is the MCP definition itself, unknown fields included. `digest` is 32 bytes: SHA-256 of the
    canonical body. `owner` (a node id's URI), `key_id` and `signature` stay empty on a direct stream, where TLS
    proves the owner.
    """

    kind: Kind
    id: str
    digest: bytes
    body: bytes
    owner: str = ""
    key_id: str = ""
    signature: bytes = b""

    @classmethod
    def of(cls, kind: Kind, record_id: str, body: Mapping[str, Any]) -> Record:
        """A record of ours, digest taken here. Raises `Invalid` if the body cannot be written as JSON."""
        return cls(kind, record_id, jsons.digest(body), jsons.compact(jsons.dumps(body)))

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.kind, self.id)

    def data(self) -> dict[str, Any]:
        """The body, parsed anew: callers keep what they parsed."""
        return jsons.loads_object(self.body, f"{self.kind} record {self.id!r}")

    def verify(self) -> dict[str, Any]:
        """The parsed body of a record from elsewhere. Raises `Invalid` unless body and digest agree."""
        data = self.data()
        if jsons.digest(data) != self.digest:
            raise Invalid(f"{self.kind} record {self.id!r}: its digest does not match its body")
        return data

    def __repr__(self) -> str:
        return f"Record({self.kind} {self.id} {self.digest.hex()[:8]})"


class Version(NamedTuple):
    """A point in an owner's history: `epoch` once per process life, `seq` counts changes within it."""

    epoch: int
    seq: int


NOTHING_KNOWN = Version(0, 0)


def manifest(records: Iterable[Record]) -> dict[RecordKey, bytes]:
    """Which records, at which digest: what a receiver tells an owner that it holds."""
    return {r.key: r.digest for r in records}


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf something is asked.

    `kind` is one of `anonymous`, `key`, `user`, `service`, `node`. Two principals are the same caller when
    `identity` is equal. `actors` act for the subject, nearest first (RFC 8693 §4.1). `credential` says what proved
    all this, as KIND/NAME, for revocation and the audit; it is never the secret itself. The proof ends at `expires_s`
    (unix seconds; 0: it does not).
    """

    subject: str
    issuer: str = ""
    tenant: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    kind: str = "anonymous"
    actors: tuple[str, ...] = ()
    credential: str = ""
    expires_s: int = 0

    @property
    def identity(self) -> tuple[str, str, str]:
        return (self.issuer, self.tenant, self.subject)


ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a guard decided, and by which rule: what the audit keeps, whatever the caller is shown."""

    allowed: bool
    reason: str = ""
    rule: str = ""
