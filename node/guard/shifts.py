"""Whose lists another state of governance can change: who must look again, and who need not. Pure."""

from __future__ import annotations

from typing import NamedTuple

from node.guard.governed import Governed


class Shift(NamedTuple):
    """`servers` are bare names, None: any of them. `keys` are the names of callers whose reach is another.

    What is revoked is in neither: the streams of who is revoked end.
    """

    servers: frozenset[str] | None = frozenset()
    keys: frozenset[str] = frozenset()


def shift(before: Governed, after: Governed) -> Shift:
    if _policed(before) != _policed(after):
        return Shift(None)
    held = before.held.keys() | after.held.keys()
    servers = frozenset(name for name in held if before.held.get(name) != after.held.get(name))
    keys = frozenset(key.name for key in {*before.keys.values()} ^ {*after.keys.values()})
    return Shift(servers, keys)


def _policed(state: Governed) -> object:
    enforced = tuple(rule for rule in state.policies if rule.mode == "enforce")
    return enforced, state.tenants.keys(), state.tenants_governed, bool(state.closed)
