"""What would be decided otherwise if policies in shadow mode were enforced: of the latest calls, and of lists.

A dry run over what is known, beside the count of what was really called (`node.guard.shadow`). It runs on the loop:
bounded in decisions, and in slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from node.aiming import aimed_at
from node.asking import Aim, action_of
from node.catalog import Catalog
from node.guard.cedar.engine import Answer
from node.guard.layers import refused
from node.guard.mesh import rule
from node.guard.terms import Party, Terms
from node.ports import Action, CallRecord, Resource
from proto.records import Kind, Principal

DECISIONS_MAX = 50_000
SLICE = 500
NAMES_MAX = 20
"""Told of what one class of callers would gain, and lose."""
CALLERS_MAX = 5
"""Told of one class."""

_KINDS = {"tools/call": Kind.TOOL, "prompts/get": Kind.PROMPT, "resources/read": Kind.RESOURCE}


class CallChange(NamedTuple):
    """A call of the latest ones, by whom; `after` is yes, no, or depends (on its arguments, which are not kept)."""

    at_ms: int
    subject: str
    action: str
    server: str
    tool: str
    before: bool
    after: str
    rule: str


@dataclass(slots=True)
class ListChange:
    """What callers of one class find in lists: how much now, how much then, and by name what comes and goes."""

    callers: list[str]
    before: int = 0
    after: int = 0
    gained: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Comparison(NamedTuple):
    """`complete` is false where the bound was reached."""

    calls: list[CallChange]
    lists: list[ListChange]
    complete: bool


async def compare(
    terms: Terms, principals: Iterable[Principal], recent: Iterable[CallRecord], catalog: Catalog
) -> Comparison:
    """Empty where no policy is in shadow mode. `principals` are those who are known; others' calls are left out."""
    if terms.shadow is None:
        return Comparison([], [], True)
    known = {principal.identity: principal for principal in principals}
    calls = [found for record in recent if (found := _call(terms, known, record, catalog)) is not None]
    classes: dict[int, tuple[Party, ListChange]] = {}
    for principal in known.values():
        party = terms.party(principal)
        change = classes.setdefault(id(party), (party, ListChange([])))[1]
        if len(change.callers) < CALLERS_MAX:
            change.callers.append(principal.subject)
    left = DECISIONS_MAX
    for party, change in classes.values():
        for resource in _offered(catalog):
            if not left:
                return Comparison(calls, _changed(classes.values()), False)
            left -= 1
            _list(terms, party, resource, change)
            if left % SLICE == 0:
                await asyncio.sleep(0)
    return Comparison(calls, _changed(classes.values()), True)


def _call(
    terms: Terms, known: dict[tuple[str, str, str], Principal], record: CallRecord, catalog: Catalog
) -> CallChange | None:
    principal = known.get((record.issuer, record.tenant, record.subject))
    owner = catalog.owners.get(record.owner)
    held = owner.servers.values() if owner is not None else ()
    server = next((s for s in held if record.server in (s.name, s.service, s.qualified)), None)
    if principal is None or server is None:
        return None
    resource = aimed_at(server, Aim(_KINDS.get(record.method, Kind.TOOL), record.tool))
    party, action = terms.party(principal), action_of(record.method)
    if refused(party.standing, action, resource, terms.governed) is not None:
        return None
    before = rule(terms, party, action, resource).said
    after = terms.judge_shadow(party, action, resource)
    if after is None or (before is not Answer.NO and after.answer is Answer.YES) or after.answer is before:
        return None
    return CallChange(
        record.at_ms,
        record.subject,
        action.value,
        record.server,
        record.tool,
        before is not Answer.NO,
        after.answer.value,
        after.label or "default deny",
    )


def _list(terms: Terms, party: Party, resource: Resource, change: ListChange) -> None:
    before = rule(terms, party, Action.LIST, resource).said is not Answer.NO
    after = _then(terms, party, resource)
    change.before += before
    change.after += after
    if before is not after:
        names = change.gained if after else change.lost
        if len(names) < NAMES_MAX:
            names.append(f"{resource.server}/{resource.tool}" if resource.tool else resource.server)


def _then(terms: Terms, party: Party, resource: Resource) -> bool:
    if refused(party.standing, Action.LIST, resource, terms.governed) is not None:
        return False
    actions = [Action.LIST]
    if resource.kind != "server":
        actions.append(Action.CALL if resource.kind == "tool" else Action.READ)
    verdicts = (terms.judge_shadow(party, action, resource) for action in actions)
    return all(verdict is not None and verdict.answer is not Answer.NO for verdict in verdicts)


def _offered(catalog: Catalog) -> Iterator[Resource]:
    for owner in catalog.owners.values():
        for server in owner.servers.values():
            if owner.listed and server.info is not None:
                yield server.resource()
                yield from (server.resource(name, kind) for kind, name in server.offered)


def _changed(classes: Iterable[tuple[Party, ListChange]]) -> list[ListChange]:
    return [change for _, change in classes if change.gained or change.lost]
