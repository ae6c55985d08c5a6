"""What several authorities lay down, as one: deny wins. Pure.

    of a record    counts as a grant if its authority                 counts as a denial
    key            was heard within the age and has the role, and     –
                   no authority says otherwise of name or digest
    policy         has the role (its permits)                         always (its forbids); of an authority that was not
                                                                      heard within the age: everything is refused
    tenant         was heard within the age and has the role          always (that tenants are governed; its addresses)
    held, revoked  –                                                  always

What cannot be honoured (`Broken`) counts for all that it could deny.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from node.governance.bodies import Broken, Item
from node.guard.governed import Governed, Held, KeyRecord, PolicyRule, Revoked, Tenant
from proto.errors import Invalid
from proto.names import check_server_name
from proto.records import Kind, RecordKey

NOWHERE = ("255.255.255.255/32",)
"""Networks that nobody dials from: what is left where two authorities allow a tenant none in common."""


@dataclass(frozen=True, slots=True)
class Side:
    """One authority's say. `authority` is its name; `grants`: it has the role; `fresh`: heard within the age."""

    authority: str
    items: Mapping[RecordKey, Item]
    grants: bool = True
    fresh: bool = True

    @property
    def counts(self) -> bool:
        return self.grants and self.fresh

    def of(self, kind: Kind) -> Iterator[tuple[str, Item]]:
        return ((key.id, item) for key, item in self.items.items() if key.kind is kind)


def unite(sides: Sequence[Side], version: int = 0, unheard: Collection[str] = ()) -> tuple[Governed, tuple[str, ...]]:
    """(all of it, what operators have to mend). `unheard`: authorities that must be heard, and never were."""
    problems = [
        f"{side.authority} lays down {key.kind} {key.id[:80]!r}, which cannot be honoured: {item.reason}"
        for side in sides
        for key, item in side.items.items()
        if isinstance(item, Broken)
    ]
    revoked = _revoked(sides)
    keys, contradicted = _keys(sides)
    tenants, governed = _tenants(sides)
    closed = [*(f"{name} has never been heard, and guard.authorities names it" for name in unheard), *_closed(sides)]
    state = Governed(
        version,
        {digest: key for digest, key in keys.items() if key.credential not in revoked},
        _policies(sides),
        tenants,
        _held(sides),
        revoked,
        frozenset(side.authority for side in sides if not side.counts) | frozenset(unheard),
        governed,
        "; ".join(closed),
    )
    return state, (*problems, *contradicted, *closed)


def _keys(sides: Sequence[Side]) -> tuple[dict[bytes, KeyRecord], list[str]]:
    said: dict[str, KeyRecord] = {}
    owners: dict[bytes, str] = {}
    counting: set[str] = set()
    wrong: set[str] = set()
    problems: list[str] = []
    for side in sides:
        for name, item in side.of(Kind.KEY):
            if not isinstance(item, KeyRecord):
                wrong.add(name)
                continue
            first = said.setdefault(name, item)
            if first is not item and replace(item, authority=first.authority) != first:
                wrong.add(name)
                problems.append(
                    f"key {name!r} counts nowhere: {first.authority} and {item.authority} disagree about it; revoke it "
                    "at all authorities but one"
                )
            other = owners.setdefault(item.sha256, name)
            if other != name:
                wrong |= {name, other}
                problems.append(f"keys {other!r} and {name!r} count nowhere: they are one and the same key; revoke one")
            if side.counts:
                counting.add(name)
    return {key.sha256: key for name, key in said.items() if name in counting and name not in wrong}, problems


def _policies(sides: Sequence[Side]) -> tuple[PolicyRule, ...]:
    rules = [
        item if side.grants else replace(item, grants=False)
        for side in sides
        for _, item in side.of(Kind.POLICY)
        if isinstance(item, PolicyRule)
    ]
    return tuple(sorted(rules, key=lambda rule: (rule.name, rule.authority)))


def _closed(sides: Sequence[Side]) -> Iterator[str]:
    for side in sides:
        policies = [item for _, item in side.of(Kind.POLICY)]
        if any(isinstance(item, Broken) for item in policies):
            yield f"{side.authority} lays down a policy that cannot be honoured"
        if any(isinstance(item, Broken) and not _names_a_server(name) for name, item in side.of(Kind.QUARANTINE)):
            yield f"{side.authority} holds something, and nobody can tell what"
        if not side.fresh and any(isinstance(item, PolicyRule) and item.mode == "enforce" for item in policies):
            yield f"{side.authority}, whose policies are in force, has not been heard for longer than the age allows"


def _tenants(sides: Sequence[Side]) -> tuple[dict[str, Tenant], bool]:
    found: dict[str, Tenant] = {}
    narrowed: dict[str, tuple[str, ...]] = {}
    broken: set[str] = set()
    governed = False
    for side in sides:
        for name, item in side.of(Kind.TENANT):
            governed = True
            if not isinstance(item, Tenant):
                broken.add(name)
                continue
            if side.counts:
                found.setdefault(name, item)
            narrowed[name] = _common(narrowed.get(name, ()), item.addresses)
    return {n: replace(t, addresses=narrowed[n]) for n, t in found.items() if n not in broken}, governed


def _held(sides: Sequence[Side]) -> dict[str, tuple[Held, ...]]:
    held: defaultdict[str, list[Held]] = defaultdict(list)
    for side in sides:
        for server, item in side.of(Kind.QUARANTINE):
            if isinstance(item, tuple):
                held[server] += item
            else:
                held[server].append(Held(server, reason="what holds it cannot be read", authority=side.authority))
    return {server: tuple(items) for server, items in held.items()}


def _revoked(sides: Sequence[Side]) -> dict[str, Revoked]:
    revoked: dict[str, Revoked] = {}
    for side in sides:
        for credential, item in side.of(Kind.REVOCATION):
            known = item if isinstance(item, Revoked) else Revoked(credential, authority=side.authority)
            revoked.setdefault(credential, known)
    return revoked


def _names_a_server(name: str) -> bool:
    try:
        check_server_name(name)
    except Invalid:
        return False
    return True


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """Networks in both; none at all is everywhere."""
    if not one or not other:
        return one or other
    pairs = ((ipaddress.ip_network(a), ipaddress.ip_network(b)) for a in one for b in other)
    both = {str(max(a, b, key=lambda n: n.prefixlen)) for a, b in pairs if a.version == b.version and a.overlaps(b)}
    return tuple(sorted(both)) or NOWHERE
