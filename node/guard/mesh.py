"""The guard: every decision of a node, by one pipeline, for every road that a call can take.

    a call:  revoked? → mutators → layers (governance, tenant, held, reach) → policies → scopes → arguments → limits
    a list:  the same layers and policies, arguments and scopes apart, by class

`node.guard.layers` and `node.guard.cedar` decide; here they are asked, in order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from node.asking import WITH_ARGUMENTS, accompanies, action_of
from node.audit.port import Audit, NoAudit
from node.guard.cedar.engine import UNASKED, Verdict
from node.guard.cedar.engine import Answer as Said
from node.guard.governed import Governance, Governed, PolicyRule, Ungoverned
from node.guard.layers import refused
from node.guard.limits import Limits, Unlimited
from node.guard.reach import Reaches
from node.guard.shadow import Differences
from node.guard.terms import Party, Ruling, Terms
from node.ports import Action, Admission, Ended, Lease, Resource, Visibility
from node.settings.guard import RoleConfig
from proto import jsons
from proto.calls import Answer, Call
from proto.errors import Forbidden, Invalid, MeshError, ScopeRequired
from proto.records import Decision, Principal

log = logging.getLogger("toolmesh.guard")

OPERATOR_SCOPE = "operator"
NO_POLICY = "default deny"

Mutator = Callable[[Call, Resource], Awaitable[dict[str, Any]]]
"""(call, what it is for) → the arguments that it shall have instead. Nothing else of a call can be changed."""


class _Visibility:
    """What one party may see for one action."""

    __slots__ = ("_action", "_party", "_terms", "key")

    def __init__(self, terms: Terms, party: Party, action: Action) -> None:
        self.key: Hashable = (party.key, action)
        self._terms = terms
        self._party = party
        self._action = action

    def allows(self, resource: Resource) -> bool:
        return rule(self._terms, self._party, self._action, resource).said is not Said.NO


class _Administered:
    """What one principal may administer: unlike all else this rests on a scope of its own."""

    __slots__ = ("_guard", "_principal", "key")

    def __init__(self, guard: MeshGuard, party: Party, principal: Principal) -> None:
        self.key: Hashable = (party.key, Action.ADMINISTER, OPERATOR_SCOPE in principal.scopes, principal.kind)
        self._guard = guard
        self._principal = principal

    def allows(self, resource: Resource) -> bool:
        return self._guard.may(self._principal, Action.ADMINISTER, resource).allowed


@dataclass(frozen=True, slots=True)
class _Nothing:
    key: Hashable = "nothing"

    def allows(self, resource: Resource) -> bool:
        return False


_NOTHING = _Nothing()
_INVALID = Decision(False, "the caller's credential is revoked or has expired", "credential")


def rule(terms: Terms, party: Party, action: Action, resource: Resource) -> Ruling:
    """What is decided of this action, arguments and scopes apart, and of what is needed to be of any use.

    What is found by a search or a list must not be refused in every case when it is used, and what a template makes
    not be read where the template must not. One look into a dict where it was asked before.
    """
    known = party.rulings.get((action, resource))
    if known is None:
        known = _rule_one(terms, party, action, resource)
        if known.said is not Said.NO and action in (Action.SEARCH, Action.LIST) and resource.tool:
            use = Action.CALL if resource.kind == "tool" else Action.READ
            used = _rule_one(terms, party, use, resource)
            known = used if used.said is Said.NO else known
        if known.said is not Said.NO and resource.template is not None:
            made_by = rule(terms, party, action, resource.template)
            known = made_by if made_by.said is Said.NO else known
        if known.rule != UNASKED.label and resource.listed:
            terms.remember(party, action, resource, known)
    return known


def _rule_one(terms: Terms, party: Party, action: Action, resource: Resource) -> Ruling:
    denied = refused(party.standing, action, resource, terms.governed)
    if denied is not None:
        return Ruling(Said.NO, denied.rule, denied.reason)
    said, label, _ = terms.judge(party, action, resource)
    if said is not Said.NO:
        return Ruling(said, label or party.standing.reach.rule)
    return _no(terms, action, resource, label)


def _no(terms: Terms, action: Action, resource: Resource, label: str) -> Ruling:
    if terms.broken:
        return Ruling(Said.NO, label, terms.broken)
    what = f"{resource.server}/{resource.tool}" if resource.tool else resource.server or resource.owner
    if label:
        return Ruling(Said.NO, label, f"{label} forbids to {action} {what}")
    return Ruling(Said.NO, NO_POLICY, f"no policy and no role permits to {action} {what}")


class MeshGuard:
    """`me` is this node's name. `own` and `roles` are the configuration's; a policy that cannot be read raises
    `Invalid`.

    `valid` says whether a principal still counts: neither revoked nor expired. `mutators` run in order.
    """

    def __init__(
        self,
        me: str,
        reaches: Reaches,
        *,
        governance: Governance | None = None,
        own: Sequence[PolicyRule] = (),
        roles: Mapping[str, RoleConfig] | None = None,
        valid: Callable[[Principal], bool] = lambda _: True,
        limits: Limits | None = None,
        audit: Audit | None = None,
        mutators: Sequence[Mutator] = (),
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._me = me
        self._reaches = reaches
        self._own = tuple(own)
        self._roles = dict(roles or {})
        self._valid = valid
        self._limits = limits if not isinstance(limits, Unlimited) else None
        self._audit = audit or NoAudit()
        self._mutators = tuple(mutators)
        self._now_ms = now_ms
        self.differences = Differences()
        governance = governance or Ungoverned()
        self.terms = Terms(governance.state, self._own, self._roles, reaches)
        governance.subscribe(self._govern)

    def __repr__(self) -> str:
        return f"MeshGuard({self.terms!r})"

    def visible(self, principal: Principal, action: Action) -> Visibility:
        if not self._valid(principal):
            return _NOTHING
        terms = self.terms
        party = terms.party(principal)
        if action is Action.ADMINISTER:
            return _Administered(self, party, principal)
        known = party.filters.get(action)
        if not isinstance(known, _Visibility):
            known = party.filters[action] = _Visibility(terms, party, action)
        return known

    def explain(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        if not self._valid(principal):
            return _INVALID
        if action is Action.ADMINISTER:
            return self.may(principal, action, resource)
        terms = self.terms
        return rule(terms, terms.party(principal), action, resource).decision

    def may(self, principal: Principal, action: Action, resource: Resource) -> Decision:
        if not self._valid(principal):
            return _INVALID
        terms = self.terms
        party = terms.party(principal)
        if action is Action.ADMINISTER:
            return self._administer(terms, party, principal, resource)
        ruling = rule(terms, party, action, resource)
        if ruling.said is Said.DEPENDS:
            said, label, _ = terms.judge_call(party, action, resource, {})
            if said is Said.NO:
                return _no(terms, action, resource, label).decision
        missing = _missing(principal, resource)
        if ruling.said is not Said.NO and missing:
            return Decision(False, f"scopes are missing: {' '.join(missing)}", "scopes")
        return ruling.decision

    def may_under(self, governed: Governed, principal: Principal, resource: Resource) -> bool:
        """Whether the principal could administer it, were that what governs."""
        terms = Terms(governed, self._own, self._roles, self._reaches)
        return self._administer(terms, terms.party(principal), principal, resource).allowed

    async def admit(self, call: Call, *resources: Resource) -> Admission:
        self._audit.ready()
        principal = call.principal
        if not self._valid(principal):
            raise _ruled(Forbidden(_INVALID.reason), _INVALID.rule)
        call = await self._mutated(call, resources)
        terms = self.terms
        party = terms.party(principal)
        action = action_of(call.method)
        asked = _asked(call)
        allowed: list[Resource] = []
        decision: Decision | None = None
        refusal: MeshError | None = None
        for resource in resources:
            found = self._refused_to_peers(call, resource) or self._decide(terms, party, call, action, resource, asked)
            if terms.shadow is not None:
                self._compare(terms, party, call, action, resource, asked, found)
            if isinstance(found, Decision):
                allowed.append(resource)
                decision = decision or found
            elif refusal is None or _tells_more(found, refusal):
                refusal = found
        if decision is None:
            raise refusal or _ruled(Forbidden("nothing could run it"), NO_POLICY)
        return Admission(call, decision, tuple(allowed), self._lease(call, allowed))

    async def result(self, call: Call, answer: Answer) -> Answer:
        return answer

    def settle(self, call: Call, ended: Ended) -> None:
        try:
            if ended.lease is not None:
                ended.lease.leave()
            self._audit.call(call, ended)
        except Exception:
            # The call is over and answered, whatever becomes of its record: that is the audit's own alarm.
            log.exception("call %s was not settled", call.call_id)

    # ---- in order ------------------------------------------------------------------------------------

    async def _mutated(self, call: Call, resources: Sequence[Resource]) -> Call:
        """By construction nothing but the arguments can change: not the tool, not the server, not who calls."""
        if not self._mutators or call.method not in WITH_ARGUMENTS or not resources:
            return call
        for mutate in self._mutators:
            arguments = await mutate(call, resources[0])
            call = replace(call, params={**call.params, "arguments": arguments})
        return call

    def _refused_to_peers(self, call: Call, resource: Resource) -> MeshError | None:
        if not call.via or call.via[0] == self._me:
            return None
        denied = self._reaches.from_peer(resource)
        return _ruled(Forbidden(denied.reason), denied.rule) if denied is not None else None

    def _decide(
        self, terms: Terms, party: Party, call: Call, action: Action, resource: Resource, asked: Any
    ) -> Decision | MeshError:
        ruling = rule(terms, party, action, resource)
        if ruling.said is Said.NO:
            return _ruled(Forbidden(ruling.reason), ruling.rule)
        if missing := _missing(call.principal, resource):
            named = " ".join(missing)
            what = f"{resource.tool!r} of server {resource.server!r}"
            return _ruled(ScopeRequired(f"{what} takes scopes that you do not have: {named}", scopes=missing), "scopes")
        if ruling.said is Said.DEPENDS and not accompanies(call.method):
            if not isinstance(asked, dict):
                # A server may read what policies cannot: JSON in a text, or a list by its places.
                return _ruled(Invalid("params.arguments must be an object"), ruling.rule)
            said, label, _ = terms.judge_call(party, action, resource, asked)
            if said is Said.NO:
                what = f"{resource.tool!r} of server {resource.server!r}"
                return _ruled(Invalid(f"these arguments are not permitted for {what}"), label or NO_POLICY)
            return Decision(True, "", label)
        return ruling.decision

    def _lease(self, call: Call, allowed: Sequence[Resource]) -> Lease | None:
        if self._limits is None:
            return None
        size = len(jsons.dumps(call.params)) if self._limits.weighs else 0
        here = not call.via or call.via[0] == self._me
        mine = any(resource.owner == self._me for resource in allowed)
        return self._limits.enter(call.principal, call.server, size, entry=here, owner=mine)

    def _administer(self, terms: Terms, party: Party, principal: Principal, resource: Resource) -> Decision:
        denied = refused(party.standing, Action.ADMINISTER, resource, terms.governed)
        if denied is not None:
            return denied
        said, label, _ = Verdict(Said.NO)
        if terms.book is not None and party.policy is not None:
            said, label, _ = terms.book.judge_call(party.policy, Action.ADMINISTER, resource, {})
            if said is Said.NO and label:
                return _no(terms, Action.ADMINISTER, resource, label).decision
        if OPERATOR_SCOPE in principal.scopes:
            return Decision(True, "", f"scope {OPERATOR_SCOPE}")
        if principal.kind == "anonymous" and self._reaches.open:
            return Decision(True, "", "open")
        if said is Said.YES:
            return Decision(True, "", label)
        return Decision(
            False, f"it takes the scope {OPERATOR_SCOPE!r}, or a policy that permits to administer", "scopes"
        )

    def _compare(
        self,
        terms: Terms,
        party: Party,
        call: Call,
        action: Action,
        resource: Resource,
        asked: Any,
        found: Decision | MeshError,
    ) -> None:
        """Only where policies decide: what a layer or a scope refuses is refused then, too."""
        before = isinstance(found, Decision)
        if not before and refused(party.standing, action, resource, terms.governed) is not None:
            return
        verdict = (
            terms.judge_shadow(party, action, resource)
            if accompanies(call.method)
            else terms.judge_shadow_call(party, action, resource, asked)
        )
        if verdict is None or isinstance(found, ScopeRequired) or (verdict.answer is not Said.NO) is before:
            return
        by = verdict.label or NO_POLICY
        first = self.differences.note(
            party.key, call.principal, action, resource, before=before, rule=by, now_ms=self._now_ms()
        )
        if first:
            decision = Decision(not before, "", by)
            self._audit.decision(call.principal, action, resource, decision, call_id=call.call_id, shadow=by)

    def _govern(self, governed: Governed) -> None:
        """A change of governance. What it leaves as it was keeps what was worked out; revocations are `valid`'s."""
        before = self.terms.governed
        if _same_for_terms(before, governed):
            self.terms.governed = governed
            return
        if before.policies != governed.policies:
            self.differences.clear()
        former, self.terms = self.terms, Terms(governed, self._own, self._roles, self._reaches)
        former.let_go()


def _same_for_terms(a: Governed, b: Governed) -> bool:
    return (
        a.policies == b.policies
        and a.held == b.held
        and a.keys == b.keys
        and a.tenants.keys() == b.tenants.keys()
        and (a.tenants_governed, a.closed) == (b.tenants_governed, b.closed)
    )


def _asked(call: Call) -> Any:
    """The arguments as policies are to see them: of a method that has none, or where none are given, no members."""
    given = call.params.get("arguments") if call.method in WITH_ARGUMENTS else None
    return {} if given is None else given


def _missing(principal: Principal, resource: Resource) -> list[str]:
    return [scope for scope in resource.scopes if scope not in principal.scopes] if resource.scopes else []


def _tells_more(error: MeshError, than: MeshError) -> bool:
    """What a caller can mend comes first: a scope, then arguments; what it may not see comes last."""
    order = (ScopeRequired, Invalid, Forbidden)
    return order.index(type(error)) < order.index(type(than))


def _ruled(error: MeshError, by: str) -> MeshError:
    error.rule = by
    return error
