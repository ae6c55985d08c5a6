"""The limits of calls as configured: by principal where it comes in, by server and by both at the server's owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from node.guard.limits import NO_LEASE, Lease
from node.guard.rates import Bucket, Rule, Table
from node.settings.limits import CallLimit, LimitsSection
from proto.errors import Exhausted
from proto.records import Principal

BUSY_RETRY_S = 1.0
"""Told where too many calls run at once: when one of them ends nobody knows."""


class _Held:
    """Places of one call among those that run."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: list[Bucket]) -> None:
        self._buckets = buckets

    def leave(self) -> None:
        buckets, self._buckets = self._buckets, []
        for bucket in buckets:
            bucket.running -= 1


class MeasuredLimits:
    """`mesh` is the issuer of this mesh's own keys, to whom alone `limits.keys` speaks. `clock` is in seconds.

    A call is counted in all of its limits, or, where one refuses it, in none: who is refused and tries again loses
    nothing by it.
    """

    def __init__(self, section: LimitsSection, mesh: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._mesh = mesh
        self._clock = clock
        base = section.principal
        self._principal = _rule("limits.principal", base)
        self._keys = {name: _rule(f"limits.keys.{name}", base.overridden_by(o)) for name, o in section.keys.items()}
        self._tenants = {n: _rule(f"limits.tenants.{n}", base.overridden_by(o)) for n, o in section.tenants.items()}
        self._server = _rule("limits.server", section.server)
        self._servers: Mapping[str, Rule] = {
            name: _rule(f"limits.servers.{name}", section.server.overridden_by(o))
            for name, o in section.servers.items()
        }
        self._pair = _rule("limits.pair", section.pair)
        self._by_principal = Table() if self._keys or self._tenants or self._principal.limits else None
        self._by_server = Table() if self._servers or self._server.limits else None
        self._by_pair = Table() if self._pair.limits else None
        rules = [self._principal, *self._keys.values(), *self._tenants.values(), self._server, *self._servers.values()]
        self.weighs = any(rule.payload_bytes for rule in (*rules, self._pair))

    def enter(
        self, principal: Principal, server: str, size_bytes: int, *, entry: bool = True, owner: bool = True
    ) -> Lease:
        now_s = self._clock()
        buckets: list[Bucket] = []
        identity = principal.identity
        if entry and (table := self._by_principal) is not None:
            if (bucket := table.known(identity)) is not None:
                buckets.append(bucket)
            elif (rule := self._rule_of(principal)).limits:
                buckets.append(table.enter(identity, rule, now_s))
        if owner:
            if (table := self._by_server) is not None:
                if (bucket := table.known(server)) is not None:
                    buckets.append(bucket)
                elif (rule := self._servers.get(server, self._server)).limits:
                    buckets.append(table.enter(server, rule, now_s))
            if (table := self._by_pair) is not None:
                key = (identity, server)
                buckets.append(table.known(key) or table.enter(key, self._pair, now_s))
        if not buckets:
            return NO_LEASE
        for bucket in buckets:
            _check(bucket, size_bytes, now_s, buckets)
        held: list[Bucket] = []
        for bucket in buckets:
            bucket.take(now_s)
            if bucket.rule.concurrency:
                bucket.running += 1
                held.append(bucket)
        return _Held(held) if held else NO_LEASE

    def counted(self) -> dict[str, int]:
        """How many `principals`, `servers` and `pairs` are in the tables now."""
        tables = {"principals": self._by_principal, "servers": self._by_server, "pairs": self._by_pair}
        return {name: len(table) if table is not None else 0 for name, table in tables.items()}

    @property
    def crowded(self) -> int:
        """How often one was counted together with others, for want of room (see `Table`)."""
        tables = (self._by_principal, self._by_server, self._by_pair)
        return sum(table.crowded for table in tables if table is not None)

    def _rule_of(self, principal: Principal) -> Rule:
        if principal.issuer == self._mesh and (rule := self._keys.get(principal.subject)) is not None:
            return rule
        return self._tenants.get(principal.tenant, self._principal)

    def __repr__(self) -> str:
        told = " ".join(f"{name}={count}" for name, count in {**self.counted(), "crowded": self.crowded}.items())
        return f"MeasuredLimits({told})"


def _check(bucket: Bucket, size_bytes: int, now_s: float, together: list[Bucket]) -> None:
    rule = bucket.rule
    if rule.payload_bytes and size_bytes > rule.payload_bytes:
        raise Exhausted(
            f"the parameters are {size_bytes} bytes long, and {rule.name}.payload_bytes is {rule.payload_bytes}; "
            "send less at once",
            limit=f"{rule.name}.payload_bytes",
        )
    if rule.concurrency and bucket.running >= rule.concurrency:
        raise Exhausted(
            f"{bucket.running} calls run at once, and {rule.name}.concurrency is {rule.concurrency}; wait until one "
            "has ended",
            limit=f"{rule.name}.concurrency",
            retry_after_s=BUSY_RETRY_S,
        )
    if rule.interval_s and bucket.wait_s(now_s):
        # The longest of all: a call that comes back then is not sent away by another limit.
        wait_s = max(b.wait_s(now_s) for b in together)
        raise Exhausted(
            f"more calls than {rule.name}.requests_per_{rule.per} allows; the next one passes in {wait_s:.3g} s",
            limit=f"{rule.name}.requests_per_{rule.per}",
            retry_after_s=wait_s,
        )


def _rule(name: str, limit: CallLimit) -> Rule:
    return Rule.at(
        name,
        per_s=limit.per_s,
        burst=limit.bursting,
        concurrency=limit.concurrency,
        payload_bytes=limit.payload_bytes,
        per="min" if limit.requests_per_min else "s",
    )
