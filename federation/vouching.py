"""What an owner believes of a peer that speaks for somebody else.

On a direct stream inside one trust domain TLS proves the entry node, and its word counts: it names itself as the only
node that the call has passed through, and says who calls. Of any other road the word must be signed
(`node.assertions`); a road without somebody to check signatures is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from proto.calls import Call
from proto.errors import Forbidden, Invalid
from proto.names import NodeId
from proto.records import Principal

KINDS = frozenset({"anonymous", "key", "user", "service"})
"""Of callers that a node may speak for. What a node does in its own name it proves by its own certificate."""

TEXT_CHARACTERS_MAX = 1024
LISTED_CHARACTERS_MAX = 512
LIST_MAX = 256
ACTORS_MAX = 8
TENANT_CHARACTERS_MAX = 64
SECONDS_MAX = 253_402_300_799
"""The end of the year 9999."""


class Vouching(Protocol):
    """Who may speak for a caller, and by what proof."""

    def check(self, call: Call, assertion: bytes, peer: NodeId) -> None:
        """Before the call runs; its params are there. `peer` is whom TLS has proved.

        Raises `Invalid`, `Unauthenticated` or `Forbidden`; `Unavailable` where it cannot be told now.
        """


class DirectOnly:
    """The twin that knows no signatures: peers of this trust domain, on streams of their own."""

    def __init__(self, trust_domain: str = "") -> None:
        self._trust_domain = trust_domain

    def check(self, call: Call, assertion: bytes, peer: NodeId) -> None:
        if not direct(call, peer):
            raise not_direct(call, peer)
        if self._trust_domain and peer.trust_domain != self._trust_domain:
            raise Forbidden(f"{peer.uri} is of another trust domain, and nobody is vouched for from there")


def direct(call: Call, peer: NodeId) -> bool:
    """Has it passed through its entry node alone, which is the node that sends it?"""
    return call.via == (peer.name,)


def not_direct(call: Call, peer: NodeId) -> Invalid:
    if len(call.via) > 1 and call.via[-1] == peer.name:
        return Invalid(
            f"via is {list(call.via[:4])}: a call through a relay is not taken; {call.via[0]!r} must send it itself"
        )
    return Invalid(
        f"via is {list(call.via[:4])}: a call reaches its owner from its entry node directly, and {peer.name!r} sent it"
    )


def check_principal(principal: Principal) -> None:
    """Whether a peer's words about a caller are well-formed. Raises `Invalid`, naming the field."""
    if principal.kind not in KINDS:
        raise Invalid(f"principal.kind is {principal.kind[:40]!r}: a peer speaks for {', '.join(sorted(KINDS))}")
    _check(principal.subject, "subject", TEXT_CHARACTERS_MAX)
    if not principal.subject:
        raise Invalid("principal.subject is empty: every caller has a name, that of nobody is 'anonymous'")
    _check(principal.issuer, "issuer", TEXT_CHARACTERS_MAX)
    _check(principal.tenant, "tenant", TENANT_CHARACTERS_MAX)
    _check(principal.credential, "credential", TEXT_CHARACTERS_MAX)
    _check_list(principal.groups, "groups", LIST_MAX)
    _check_list(principal.scopes, "scopes", LIST_MAX)
    _check_list(principal.actors, "actors", ACTORS_MAX)
    if not 0 <= principal.expires_s <= SECONDS_MAX:
        raise Invalid(f"principal.expires_s is {principal.expires_s}: it is unix time in seconds")
    proved = principal.tenant or principal.groups or principal.scopes or principal.credential or principal.actors
    if principal.kind == "anonymous" and proved:
        raise Invalid("principal.kind is 'anonymous': nobody has proved a tenant, group, scope, actor or credential")


def _check(text: str, name: str, most: int) -> None:
    if len(text) > most:
        raise Invalid(f"principal.{name} has {len(text)} characters; at most {most} are taken")
    if not text.isprintable():
        raise Invalid(f"principal.{name} holds characters that cannot be printed")


def _check_list(texts: Iterable[str], name: str, most: int) -> None:
    listed = tuple(texts)
    if len(listed) > most:
        raise Invalid(f"principal.{name} has {len(listed)} entries; at most {most} are taken")
    for text in listed:
        _check(text, name, LISTED_CHARACTERS_MAX)
        if not text:
            raise Invalid(f"principal.{name} holds an empty text")
