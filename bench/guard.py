"""What the guard costs: a call with everything on beside the same call without, and lists of 10,000 tools under policy.

In one process, without sockets: processor time of the whole process, the audit's writer included.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.rig import Rig
from bench.size import Size
from node.audit.setup import NodeAudit
from node.catalog import Catalog
from node.config import parse
from node.endpoints.directory import Directory
from node.gateway import Gateway
from node.guard.choose import guard_of
from node.guard.governed import Governed, PolicyRule, Ungoverned
from node.guard.measuring import MeasuredLimits
from node.guard.open import OpenGuard
from node.identity.choose import authenticator_of
from node.ports import Action, Caller, Credentials, Guard
from proto.calls import Answer, Call, Exchange
from proto.names import NodeId
from proto.records import Kind, Principal, Record

MESH = "bench.test"
KEY = "tm_bench_0123456789abcdefghij"
POLICIES, SERVERS, TOOLS = 200, 100, 10_000
_LIMIT = {"requests_per_s": 1_000_000, "burst": 1_000_000, "concurrency": 100}

NAMING = 'forbid(principal, action, resource == Tool::"s{n}/t{n}") when {{ resource.annotations.destructive }};'
"""Policies that name tools."""
MIXED = (
    'forbid(principal in Group::"g{n}", action, resource in Server::"s{n}");',
    'forbid(principal, action == Action::"call", resource in Server::"s{n}") when {{ resource.tool like "*drop*" }};',
    'permit(principal in Group::"g{n}", action, resource in Server::"s{n}") unless {{ principal.kind == "node" }};',
    'forbid(principal, action, resource) when {{ resource.hasTag("l{n}") && resource.getTag("l{n}") == "x" }};',
)
BY_ARGUMENTS = 'forbid(principal, action == Action::"call", resource) when { context.arguments.path like "/etc*" };'
PERMIT = "permit(principal, action, resource);"


class _Echo:
    async def call(self, call: Call, exchange: Exchange) -> Answer:
        return {"result": {"content": []}}


class _Quiet:
    def event(self, notification: dict[str, Any]) -> None:
        return

    async def request(self, request: dict[str, Any]) -> Answer:
        return {}


def _rules(*texts: str) -> tuple[PolicyRule, ...]:
    return tuple(PolicyRule(f"p{n}", text, "enforce", "a") for n, text in enumerate(texts))


def _mixed() -> list[str]:
    return [MIXED[n % len(MIXED)].format(n=n) for n in range(POLICIES - 1)] + [PERMIT]


def _catalog() -> Catalog:
    catalog = Catalog(NodeId(MESH, "eu", "eu-1"))
    body = {"health": {"state": "up"}, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    for n in range(SERVERS):
        tools = [{"name": f"t{i}", "inputSchema": {"type": "object"}} for i in range(n, TOOLS, SERVERS)]
        made = [Record.of(Kind.TOOL, f"s{n}/{tool['name']}", tool) for tool in tools]
        catalog.apply(catalog.me, [Record.of(Kind.SERVER, f"s{n}", {"name": f"s{n}", **body}), *made], [])
    return catalog


async def _call_us(
    guard: Guard,
    catalog: Catalog,
    calls: int,
    caller: Callable[[], Awaitable[Principal]],
    settled: Callable[[], Awaitable[None]],
) -> float:
    gateway = Gateway(catalog, guard, local=lambda _: _Echo(), remote=lambda _: _Echo())
    exchange = _Quiet()
    began_s = 0.0
    for i in range(calls + 50):
        if i == 50:
            began_s = time.process_time()
        principal = await caller()
        params = {"name": "t7", "arguments": {"path": "/srv/x", "n": i}}
        await gateway.call("s7", "tools/call", params, Caller(principal), exchange)
        if i % 500 == 0:
            await asyncio.sleep(0)
    await settled()
    return (time.process_time() - began_s) / calls * 1e6


def _lists_ms(catalog: Catalog, *texts: str) -> tuple[float, float]:
    """(the first time, once the class is known) that 10,000 tools are listed."""
    guard = guard_of(parse({}, Path()), governance=Ungoverned(Governed(policies=_rules(*texts))))
    directory = Directory(catalog)
    took = []
    for principal in (Principal("ann", MESH), Principal("bob", MESH)):
        began_s = time.process_time()
        visibility = guard.visible(principal, Action.LIST)
        count = sum(len(row.members) for row in directory.rows(Kind.TOOL, visibility).rows)
        took.append((time.process_time() - began_s) * 1e3)
        assert count, "nothing was listed"
    return took[0], took[1]


async def guard(rig: Rig, size: Size) -> dict[str, Any]:
    """The same call through an open guard, and through this one with a key, policies, limits and audit; and lists."""
    settings = {
        "node": {"name": "eu-1", "region": "eu", "mesh": MESH, "data_dir": str(rig.directory / "guard")},
        "auth": {"keys": [{"name": "ann", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]},
        "limits": {"principal": _LIMIT, "server": _LIMIT, "pair": _LIMIT},
    }
    config = parse(settings, rig.directory)
    config.node.data_dir.mkdir(parents=True, exist_ok=True)
    audit = NodeAudit(config)
    audit.start("bench")
    authenticator = authenticator_of(config.auth, MESH)
    catalog, shown = _catalog(), Credentials(bearer=KEY)
    figures: dict[str, list[float]] = {name: [] for name in ("open", "guarded", "arguments")}
    governed = {"guarded": _rules(*_mixed()), "arguments": _rules(*_mixed(), BY_ARGUMENTS)}
    guards: dict[str, Guard] = {"open": OpenGuard()}
    for name, rules in governed.items():
        guards[name] = guard_of(
            config,
            governance=Ungoverned(Governed(policies=rules)),
            valid=authenticator.valid,
            limits=MeasuredLimits(config.limits, MESH),
            audit=audit.audit,
        )

    async def known() -> Principal:
        return await authenticator.authenticate(shown)

    async def anybody() -> Principal:
        return _ANN

    async def written() -> None:
        """Until the audit's writer has done what these calls gave it to do."""
        if audit.recorder is not None:
            await audit.recorder.written(60)

    try:
        for _ in range(size.rounds):
            for name, made in guards.items():
                who = anybody if name == "open" else known
                figures[name].append(await _call_us(made, catalog, size.calls * 5, who, written))
    finally:
        await audit.stop()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    lists = [_lists_ms(catalog, *_mixed()) for _ in range(size.rounds)]
    naming = [
        _lists_ms(catalog, *(NAMING.format(n=n) for n in range(POLICIES - 1)), PERMIT) for _ in range(size.rounds)
    ]
    return {
        "open_us": round(medians["open"], 1),
        "guarded_us": round(medians["guarded"], 1),
        "added_us": round(medians["guarded"] - medians["open"], 1),
        "added_by_arguments_us": round(medians["arguments"] - medians["open"], 1),
        "list_first_ms": round(statistics.median(first for first, _ in lists), 1),
        "list_known_ms": round(statistics.median(again for _, again in lists), 2),
        "list_naming_first_ms": round(statistics.median(first for first, _ in naming), 1),
    }


_ANN = Principal("ann", MESH)
