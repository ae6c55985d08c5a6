"""What the guard costs: a call with everything on beside the same call without, and lists of 10,000 tools under policy.

In one process, without sockets: processor time of the whole process, the audit's writer included.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

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
ISSUER, AUDIENCE = "https://issuer.bench.test", "bench"
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
    caller: Callable[[], Awaitable[Principal]],
    paths: int,
    catalog: Catalog,
    calls: int,
    settled: Callable[[], Awaitable[None]],
) -> float:
    """Of one call; the policy on arguments reads one of so many `paths` in it."""
    gateway = Gateway(catalog, guard, local=lambda _: _Echo(), remote=lambda _: _Echo())
    exchange = _Quiet()
    began_s = 0.0
    for i in range(calls + 50):
        if i == 50:
            began_s = time.process_time()
        principal = await caller()
        params = {"name": "t7", "arguments": {"path": f"/srv/{i % paths}", "n": i}}
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


def _signed(jwks: Path) -> str:
    """A token of the issuer, whose keys are now in the file `jwks`."""
    key = ECKey.generate_key("P-256", {"kid": "k1"})
    jwks.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    now_s = int(time.time())
    claims = {"iss": ISSUER, "sub": "ann", "aud": AUDIENCE, "iat": now_s, "exp": now_s + 3_600, "jti": "t1"}
    return jwt.encode({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}, claims, key)


def _settings(directory: Path) -> tuple[dict[str, Any], str]:
    """(a node's settings with one key and one issuer, a token of that issuer)"""
    jwks = directory / "jwks.json"
    token = _signed(jwks)
    settings = {
        "node": {"name": "eu-1", "region": "eu", "mesh": MESH, "data_dir": str(directory / "guard")},
        "auth": {
            "keys": [{"name": "ann", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
            "issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": str(jwks)}],
        },
        "limits": {"principal": _LIMIT, "server": _LIMIT, "pair": _LIMIT},
    }
    return settings, token


async def guard(rig: Rig, size: Size) -> dict[str, Any]:
    """The same call through an open guard, and through this one with policies, limits and audit; and lists.

    Who calls shows a token whose signature was checked before, or a key.
    """
    settings, token = _settings(rig.directory)
    config = parse(settings, rig.directory)
    config.node.data_dir.mkdir(parents=True, exist_ok=True)
    audit = NodeAudit(config)
    audit.start("bench")
    authenticator = authenticator_of(config.auth, MESH)
    catalog = _catalog()

    def guarded(*texts: str) -> Guard:
        return guard_of(
            config,
            governance=Ungoverned(Governed(policies=_rules(*texts))),
            valid=authenticator.valid,
            limits=MeasuredLimits(config.limits, MESH),
            audit=audit.audit,
        )

    def showing(bearer: str) -> Callable[[], Awaitable[Principal]]:
        shown = Credentials(bearer=bearer)
        return lambda: authenticator.authenticate(shown)

    async def anybody() -> Principal:
        return _ANN

    async def written() -> None:
        """Until the audit's writer has done what these calls gave it to do."""
        while (recorder := audit.recorder) is not None and recorder.counts[1]:
            await recorder.written(1)

    mixed, by_arguments = guarded(*_mixed()), guarded(*_mixed(), BY_ARGUMENTS)
    cells = {
        "open": (OpenGuard(), anybody, 8),
        "token": (mixed, showing(token), 8),
        "key": (mixed, showing(KEY), 8),
        "arguments": (by_arguments, showing(token), 1_000_000),
        "known arguments": (by_arguments, showing(token), 8),
    }
    rounds: list[dict[str, float]] = []
    try:
        for _ in range(size.rounds):
            rounds.append({n: await _call_us(*cell, catalog, size.calls * 5, written) for n, cell in cells.items()})
    finally:
        await audit.stop()
        await authenticator.close()
    lists = [_lists_ms(catalog, *_mixed()) for _ in range(size.rounds)]
    naming = [
        _lists_ms(catalog, *(NAMING.format(n=n) for n in range(POLICIES - 1)), PERMIT) for _ in range(size.rounds)
    ]

    def added_us(cell: str) -> float:
        return round(statistics.median(found[cell] - found["open"] for found in rounds), 1)

    return {
        "open_us": round(statistics.median(found["open"] for found in rounds), 1),
        "guarded_us": round(statistics.median(found["token"] for found in rounds), 1),
        "added_us": added_us("token"),
        "added_with_key_us": added_us("key"),
        "added_by_arguments_us": added_us("arguments"),
        "added_by_known_arguments_us": added_us("known arguments"),
        "list_first_ms": round(statistics.median(first for first, _ in lists), 1),
        "list_known_ms": round(statistics.median(again for _, again in lists), 2),
        "list_naming_first_ms": round(statistics.median(first for first, _ in naming), 1),
    }


_ANN = Principal("ann", MESH)
