"""All policies and roles of one moment, asked by class: equal in what policies read is equal in what they decide."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from node.guard.cedar.arguments import arguments_for
from node.guard.cedar.engine import UNASKED, Answer, Engine, Verdict, Who
from node.guard.cedar.entities import (
    hints_of,
    memberships,
    principal_entity,
    principal_uid,
    resource_uid,
)
from node.guard.cedar.reading import WHOLE, Reads
from node.guard.cedar.statements import Statement
from node.ports import Resource
from proto.records import Principal

CLASSES_MAX = 10_000
"""Classes of principals that are remembered; at the bound all are forgotten and worked out again."""
VERDICTS_MAX = 200_000
"""Verdicts remembered, of all classes; at the bound likewise."""

Roles = Mapping[str, Callable[[Principal], bool]]
"""Role → whether a principal has it."""


@dataclass(slots=True, eq=False)
class PolicyClass:
    """Principals whom no policy tells apart. `key` is equal for equal classes of one book."""

    key: Hashable
    who: Who
    by_action: dict[str, tuple[Statement, ...]] = field(default_factory=dict)
    by_server: dict[tuple[str, str, str], Slice] = field(default_factory=dict)
    slices: dict[tuple[str, ...], Slice] = field(default_factory=dict)


class Book:
    """`statements` in the order in which they are named where several decide alike."""

    def __init__(self, statements: Sequence[Statement], roles: Roles) -> None:
        self.statements = tuple(statements)
        self._roles = roles
        self._reads = Reads()
        for s in statements:
            self._reads.join(s.reads)
        self.engine = Engine()
        self._classes: dict[Hashable, PolicyClass] = {}
        self._verdicts = 0

    def __repr__(self) -> str:
        return f"Book({len(self.statements)} statements, {len(self._classes)} classes, {self._verdicts} verdicts)"

    def class_of(self, principal: Principal) -> PolicyClass:
        """Costs some microseconds: to be remembered by principal."""
        held = memberships(principal, tuple(role for role, has in self._roles.items() if has(principal)))
        read = self._reads.principal
        values: Hashable = principal if WHOLE in read else tuple(getattr(principal, name) for name in sorted(read))
        key = (held & self._reads.named, values)
        known = self._classes.get(key)
        if known is None:
            if len(self._classes) >= CLASSES_MAX:
                self._forget()
            who = Who(principal_uid(principal), held, principal_entity(principal, held))
            known = self._classes[key] = PolicyClass(key, who)
        return known

    def judge(self, who: PolicyClass, action: str, resource: Resource) -> Verdict:
        """Arguments apart. One look into a dict where a resource of its class was judged before."""
        found = self._slice(who, action, resource)
        key = found.key_of(resource)
        verdict = found.verdicts.get(key)
        if verdict is None:
            verdict = self.engine.judge(found.statements, who.who, action, resource)
            if verdict is UNASKED or not resource.listed:
                return verdict
            if self._verdicts >= VERDICTS_MAX:
                self._forget()
            self._verdicts += 1
            found.verdicts[key] = verdict
        return verdict

    def judge_call(self, who: PolicyClass, action: str, resource: Resource, arguments: Any) -> Verdict:
        """With the arguments of the call, JSON as it came."""
        question = self.engine.known_question(who.who, action, resource)
        if question is None:
            verdict = self.judge(who, action, resource)
            if verdict.answer is not Answer.DEPENDS:
                return verdict
            statements = self._slice(who, action, resource).statements
            question = self.engine.question(statements, who.who, action, resource, verdict.permit)
        return self.engine.answer(question, arguments_for(arguments, question.read))

    def _slice(self, who: PolicyClass, action: str, resource: Resource) -> Slice:
        """The statements that can concern anything of this server when this class acts so."""
        at = (action, resource.server, resource.owner)
        found = who.by_server.get(at)
        if found is None:
            mine = who.by_action.get(action)
            if mine is None:
                whole = (s for s in self.statements if s.applies_to(who.who.held, who.who.uid, action))
                mine = who.by_action[action] = tuple(whole)
            statements = tuple(s for s in mine if s.may_concern(resource.server, resource.owner))
            ids = (action, *(s.id for s in statements))
            found = who.slices.get(ids)
            if found is None:
                found = who.slices[ids] = Slice(statements)
            who.by_server[at] = found
            self._verdicts += 1
        return found

    def let_go(self) -> None:
        """What was worked out will not be asked for again."""
        self._forget()
        self.engine = Engine()

    def _forget(self) -> None:
        for known in self._classes.values():
            known.by_action.clear()
            known.by_server.clear()
            known.slices.clear()
        self._classes.clear()
        self._verdicts = 0


class Slice:
    """Statements that concern the same servers, what of a resource they read, and what they decided of whom."""

    __slots__ = ("_named", "_parts", "reads", "statements", "verdicts")

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        self.verdicts: dict[Hashable, Verdict] = {}
        self.reads = Reads()
        for s in statements:
            self.reads.join(s.reads)
        self._named = self.reads.named
        self._parts = tuple(_parts(self.reads))

    def key_of(self, resource: Resource) -> Hashable:
        """What these statements can see of it."""
        if not self.statements:
            return None
        uid = resource_uid(resource)
        named = self._named
        made_by = resource_uid(resource.template) if resource.template is not None else None
        return (
            uid if uid in named else resource.kind,
            resource.server if ("Server", resource.server) in named else "",
            resource.owner if ("Node", resource.owner) in named else "",
            made_by if made_by in named else None,
            *[part(resource) for part in self._parts],
        )


def _parts(reads: Reads) -> list[Callable[[Resource], Hashable]]:
    parts: list[Callable[[Resource], Hashable]] = []
    if WHOLE in reads.resource:
        return [_whole]
    for name in sorted(reads.resource):
        if name == "annotations":
            parts.append(_hints)
        elif name != "kind":
            parts.append(attrgetter(name))
    if WHOLE in reads.labels:
        parts.append(_labels)
    else:
        parts += [_label(name) for name in sorted(reads.labels)]
    parts += [_tested(*test) for test in sorted(reads.tests) if test[0] not in reads.resource]
    return parts


def _whole(resource: Resource) -> Hashable:
    names = ("server", "owner", "region", "tool", "tenant", "service")
    return (*(getattr(resource, name) for name in names), _hints(resource), _labels(resource))


def _hints(resource: Resource) -> Hashable:
    return tuple(hints_of(resource).values())


def _labels(resource: Resource) -> Hashable:
    return tuple(sorted(resource.labels.items()))


def _label(name: str) -> Callable[[Resource], Hashable]:
    def read(resource: Resource) -> Hashable:
        return resource.labels.get(name)

    return read


def _tested(attribute: str, how: str, text: str) -> Callable[[Resource], bool]:
    """What a policy asks of a text, as Cedar answers it (`like`: `*` is any run of characters)."""
    read = attrgetter(attribute)
    if how == "==":
        return lambda resource: bool(read(resource) == text)
    first, *between = text.split("\0")
    return lambda resource: _like(read(resource), first, between)


def _like(name: str, first: str, between: Sequence[str]) -> bool:
    """One pass, whatever the pattern: a regular expression of many wildcards could take very long."""
    if not between:
        return name == first
    *middle, last = between
    if not name.startswith(first):
        return False
    at = len(first)
    for part in middle:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(last) and name.endswith(last)
