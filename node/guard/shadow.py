"""What policies in shadow mode would decide otherwise: counted, in a bounded table."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from node.ports import Action, Resource
from proto.records import Principal

DIFFERENCES_MAX = 1_000
"""Rows; beyond it the one seen longest ago is dropped, and counted."""


class Difference(NamedTuple):
    """`who` is the latest of its class; `before` and `after` say whether it is permitted now, and would be then."""

    who: str
    action: str
    server: str
    owner: str
    tool: str
    before: bool
    after: bool
    rule: str
    times: int
    last_ms: int


@dataclass(slots=True)
class _Row:
    who: str
    action: Action
    resource: Resource
    before: bool
    rule: str
    times: int = 0
    last_ms: int = 0


class Differences:
    def __init__(self) -> None:
        self._rows: OrderedDict[Hashable, _Row] = OrderedDict()
        self.dropped = 0

    def __repr__(self) -> str:
        return f"Differences({len(self._rows)} rows, {self.dropped} dropped)"

    def note(
        self,
        class_key: Hashable,
        principal: Principal,
        action: Action,
        resource: Resource,
        *,
        before: bool,
        rule: str,
        now_ms: int,
    ) -> bool:
        """One more call that would be decided otherwise by `rule`; whether it is the first of its row."""
        key = (class_key, action, resource.server, resource.owner, resource.kind, resource.tool, before, rule)
        row = self._rows.get(key)
        first = row is None
        if row is None:
            row = self._rows[key] = _Row(principal.subject, action, resource, before, rule)
            if len(self._rows) > DIFFERENCES_MAX:
                self._rows.popitem(last=False)
                self.dropped += 1
        row.who, row.last_ms = principal.subject, now_ms
        row.times += 1
        self._rows.move_to_end(key)
        return first

    def clear(self) -> None:
        self._rows.clear()
        self.dropped = 0

    def latest(self) -> list[Difference]:
        """The latest first."""
        return [
            Difference(
                row.who,
                row.action.value,
                row.resource.server,
                row.resource.owner,
                row.resource.tool,
                row.before,
                not row.before,
                row.rule,
                row.times,
                row.last_ms,
            )
            for row in reversed(self._rows.values())
        ]
