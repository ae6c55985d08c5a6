"""Policies taken apart: each statement with its scope, what it reads, and both bounds of its conditions. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import cedarpy

from node.guard.cedar.expressions import can_be, must_be, negated
from node.guard.cedar.reading import Reads, Uid, read_by
from proto.errors import Invalid

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One `permit` or `forbid`. `label` names it to people; `body` is Cedar's JSON form of it.

    `could` is the same without its reading of `context`, in effect wherever this can be; `must` only where it has to
    be. Both are `body` itself where that does not read it.
    """

    id: str
    label: str
    permits: bool
    body: Json
    could: Json
    must: Json
    reads: Reads = field(repr=False)

    @property
    def conditional(self) -> bool:
        return bool(self.body["conditions"])

    @property
    def asks_arguments(self) -> bool:
        return self.could is not self.body

    def applies_to(self, principal: frozenset[Uid], who: Uid, action: str) -> bool:
        """Its scope, as far as that says who does what. `principal` holds `who` and all that it is in."""
        return _matches(self.body["principal"], principal, who) and _acts(self.body["action"], action)

    def concerns(self, resource: frozenset[Uid], what: Uid) -> bool:
        """Its scope, as far as that says of what. `resource` holds `what` and all that it is in."""
        return _matches(self.body["resource"], resource, what)

    def may_concern(self, server: str, owner: str) -> bool:
        """Whether it can concern anything of this server; never false where it does."""
        scope = self.body["resource"]
        entity = (scope.get("in") or scope).get("entity")
        if entity is None:
            return True
        match entity["type"]:
            case "Node":
                return bool(entity["id"] == owner)
            case _:
                return bool(entity["id"].partition("/")[0] == server)


def statements_of(name: str, text: str, prefix: str) -> Iterator[Statement]:
    """Raises `Invalid` naming the place, for what is no Cedar, and for templates, whose slots nobody would fill."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as e:
        raise Invalid(f"policy {name!r}: {_where(text, str(e))}") from None
    if parsed.get("templates"):
        raise Invalid(f"policy {name!r} is a template (?principal, ?resource); write the entity instead")
    found = parsed["staticPolicies"]
    for n, body in enumerate(_in_order(found)):
        said = body.get("annotations", {}).get("id")
        label = f"policy {name}" + (f" {said}" if said else f" #{n + 1}" if len(found) > 1 else "")
        yield statement(f"{prefix}/{n}", label, body)


def statement(statement_id: str, label: str, body: Json) -> Statement:
    """From Cedar's JSON form of one policy."""
    known = Reads()
    for scope in ("principal", "resource"):
        for entity in _entities(body[scope]):
            known.named.add((entity["type"], entity["id"]))
    for condition in body["conditions"]:
        read_by(condition["body"], known)
    asks = bool(known.arguments or known.strange)
    permits, could, must = body["effect"] == "permit", body, body
    if asks:
        whole = _joined(body["conditions"])
        could = {**body, "conditions": [{"kind": "when", "body": _could(whole, permits)}]}
        must = {**body, "conditions": [{"kind": "when", "body": _must(whole, permits)}]}
    return Statement(statement_id, label, permits, body, could, must, known)


def policy_set(bodies: Iterable[tuple[str, Json]]) -> Json:
    """Cedar's JSON form of a set, under our own ids."""
    return {"staticPolicies": dict(bodies), "templates": {}, "templateLinks": []}


def _joined(conditions: list[Json]) -> Json:
    """One condition for all, in their order: what fails to be evaluated hides what comes after it."""
    parts = [c["body"] if c["kind"] == "when" else negated(c["body"]) for c in conditions]
    return reduce(lambda left, right: {"&&": {"left": left, "right": right}}, parts)


def _could(whole: Json, permits: bool) -> Json:
    """A permit takes its condition to be met; a forbid holds unless its condition is evaluated, and is not met."""
    return can_be(whole, True) if permits else negated(must_be(whole, False))


def _must(whole: Json, permits: bool) -> Json:
    return must_be(whole, True) if permits else negated(can_be(whole, False))


def _in_order(found: Json) -> list[Json]:
    """Cedar names them policy0, policy1, … in the order of the text."""
    return [found[name] for name in sorted(found, key=lambda name: (len(name), name))]


def _entities(scope: Json) -> Iterator[Json]:
    for where in (scope, scope.get("in") or {}):
        if "entity" in where:
            yield where["entity"]


def _matches(scope: Json, held: frozenset[Uid], itself: Uid) -> bool:
    match scope["op"]:
        case "All":
            return True
        case "==":
            return _uid(scope["entity"]) == itself
        case "in":
            return _uid(scope["entity"]) in held
        case "is":
            inside = scope.get("in")
            return bool(scope["entity_type"] == itself[0]) and (inside is None or _uid(inside["entity"]) in held)
    raise ValueError(f"scope {scope['op']!r} is not one that is known here")


def _acts(scope: Json, action: str) -> bool:
    match scope["op"]:
        case "All":
            return True
        case "==" | "in":
            listed = scope["entities"] if "entities" in scope else [scope["entity"]]
            return any(_uid(entity) == ("Action", action) for entity in listed)
    raise ValueError(f"scope {scope['op']!r} is not one that is known here")


def _uid(entity: Json) -> Uid:
    return entity["type"], entity["id"]


def _where(text: str, problem: str) -> str:
    """Cedar's words, on one line, without what it quotes of the text."""
    first = problem.strip().splitlines()[0] if problem.strip() else "cannot be read"
    return f"{first}; {len(text.splitlines())} lines were read"
