"""What is in force at one moment: governance, policies and roles, and which callers it tells apart."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from node.guard.cedar.book import Book, PolicyClass
from node.guard.cedar.engine import Answer, Verdict
from node.guard.governed import Governed, KeyRecord, PolicyRule
from node.guard.layers import GOVERNANCE, Standing
from node.guard.policy import book_of
from node.guard.reach import Reaches, keys_by_name
from node.ports import Action, Resource
from node.settings.guard import RoleConfig
from proto.errors import Invalid
from proto.records import Decision, Principal

log = logging.getLogger("toolmesh.guard")

PRINCIPALS_MAX = 10_000
"""Principals whose class is remembered; at the bound all are forgotten and looked at again."""

RULINGS_MAX = 100_000
"""Rulings remembered, of all parties; at the bound all are forgotten and made again."""

_versions = count(1)


class Ruling(NamedTuple):
    """`said` is DEPENDS where only the arguments can tell."""

    said: Answer
    rule: str
    reason: str = ""

    @property
    def decision(self) -> Decision:
        return Decision(self.said is not Answer.NO, self.reason, self.rule)


@dataclass(slots=True, eq=False)
class Party:
    """Callers whom nothing tells apart: the same may be seen and used by all of them."""

    key: Hashable
    standing: Standing
    policy: PolicyClass | None
    shadow: PolicyClass | None
    filters: dict[Hashable, object] = field(default_factory=dict)
    rulings: dict[tuple[Action, Resource], Ruling] = field(default_factory=dict)


class Terms:
    """Immutable but for what it remembers. Another change, another `Terms`.

    `own` are the policies of this node's configuration: one that cannot be compiled raises `Invalid`, so that the node
    does not start. One of governance that cannot be compiled here closes the node for all that policies decide.
    """

    def __init__(
        self,
        governed: Governed,
        own: Sequence[PolicyRule],
        roles: Mapping[str, RoleConfig],
        reaches: Reaches,
    ) -> None:
        self.version = next(_versions)
        self.governed = governed
        self.broken = ""
        self._reaches = reaches
        self._keys: dict[str, KeyRecord] = keys_by_name(governed)
        rules = [*own, *governed.policies]
        enforced = [rule for rule in rules if rule.mode == "enforce"]
        book_of(own, roles)
        self.book = self._book(enforced, roles) if enforced or roles else None
        shadowed = len(enforced) < len(rules)
        self.shadow = self._book(rules, roles) if shadowed else None
        self._rulings = 0
        self._parties: dict[Principal, Party] = {}
        self._by_key: dict[Hashable, Party] = {}

    def __repr__(self) -> str:
        state = f", broken: {self.broken}" if self.broken else ""
        return f"Terms({self.version}: {self.book!r}, {len(self._by_key)} parties{state})"

    def party(self, principal: Principal) -> Party:
        """One look into a dict for whoever was here before."""
        known = self._parties.get(principal)
        if known is None:
            if len(self._parties) >= PRINCIPALS_MAX:
                self._parties.clear()
                self._by_key.clear()
                self._rulings = 0
            known = self._parties[principal] = self._party_of(principal)
        return known

    def remember(self, party: Party, action: Action, resource: Resource, ruling: Ruling) -> None:
        if self._rulings >= RULINGS_MAX:
            for known in self._by_key.values():
                known.rulings.clear()
            self._rulings = 0
        self._rulings += 1
        party.rulings[action, resource] = ruling

    def let_go(self) -> None:
        """Others are in force. Lists that were made by these may be kept for a while, and must not keep all of this."""
        for known in self._by_key.values():
            known.rulings.clear()
            known.filters.clear()
        self._parties.clear()
        self._by_key.clear()
        for book in (self.book, self.shadow):
            if book is not None:
                book.let_go()

    def judge(self, party: Party, action: str, resource: Resource) -> Verdict:
        """By policies and roles, arguments apart. Without any, everything is permitted."""
        if self.broken:
            return Verdict(Answer.NO, GOVERNANCE)
        if self.book is None or party.policy is None:
            return Verdict(Answer.YES)
        return self.book.judge(party.policy, action, resource)

    def judge_call(self, party: Party, action: str, resource: Resource, arguments: object) -> Verdict:
        if self.broken:
            return Verdict(Answer.NO, GOVERNANCE)
        if self.book is None or party.policy is None:
            return Verdict(Answer.YES)
        return self.book.judge_call(party.policy, action, resource, arguments)

    def judge_shadow(self, party: Party, action: str, resource: Resource) -> Verdict | None:
        """What would be decided if all policies were enforced, arguments apart; None where none is in shadow mode."""
        if self.shadow is None or party.shadow is None:
            return None
        return self.shadow.judge(party.shadow, action, resource)

    def judge_shadow_call(self, party: Party, action: str, resource: Resource, arguments: object) -> Verdict | None:
        if self.shadow is None or party.shadow is None:
            return None
        return self.shadow.judge_call(party.shadow, action, resource, arguments)

    @property
    def principals(self) -> list[Principal]:
        """Those who were here since this is in force."""
        return list(self._parties)

    def _book(self, rules: Iterable[PolicyRule], roles: Mapping[str, RoleConfig]) -> Book | None:
        good: list[PolicyRule] = []
        for rule in rules:
            try:
                book_of([rule], {})
            # Whatever it is that fails: what went before must not stay in force in its place.
            except Exception as e:
                why = e.message if isinstance(e, Invalid) else f"it cannot be read ({type(e).__name__})"
                source = f" of {rule.authority}" if rule.authority else ""
                problem = f"policy {rule.name!r}{source} cannot be honoured here: {why}"
                if rule.mode == "enforce":
                    log.error("%s; everything that policies decide is refused", problem)
                    self.broken = problem
                else:
                    log.warning("%s; it is left out of the shadow", problem)
            else:
                good.append(rule)
        return book_of(good, roles)

    def _party_of(self, principal: Principal) -> Party:
        reach = self._reaches.reach(principal, self._keys)
        # Groups matter by themselves to servers of a tenant's teams; to policies as far as they read them.
        standing = Standing(principal.tenant, frozenset(principal.groups), reach)
        policy = self.book.class_of(principal) if self.book is not None else None
        shadow = self.shadow.class_of(principal) if self.shadow is not None else None
        globs = tuple(g.globs for g in reach.globs)
        key = (
            self.version,
            principal.tenant,
            standing.groups,
            globs,
            reach.rule,
            policy.key if policy is not None else None,
            shadow.key if shadow is not None else None,
        )
        known = self._by_key.get(key)
        if known is None:
            known = self._by_key[key] = Party(key, standing, policy, shadow)
        return known
