"""Every HTTP route of a fully configured node × everybody who might ask there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509

from federation.ca import issue
from proto.names import NodeId
from tests.matrix import routes
from tests.matrix.world import EVERYBODY, MESH, PATIENCE_S, World
from tests.node.identity.test_node import Ca

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = routes.rows()
BOTH = "application/json, text/event-stream"
SHOWN = ("peer", "foreign", "agent")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(world: World) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    """Clients by what certificate they show: a node's, one of another authority, and one that counts."""
    folder = world.base / "impostor"
    issue(world.base / "mesh", NodeId.of(MESH, "eu", "impostor"), folder)
    key = next(folder.glob("*-key.pem"))
    peer = (next(f for f in folder.glob("*.pem") if f != key and f.name != "ca.pem"), key)
    elsewhere = world.base / "elsewhere"
    elsewhere.mkdir()
    agent = x509.UniformResourceIdentifier("spiffe://agents/1")
    files: dict[str, tuple[Path, Path]] = {
        "peer": peer,
        "foreign": Ca(elsewhere, "elsewhere").issue("agent", agent)[:2],
        "agent": world.ca.issue("agent", agent)[:2],
    }
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=world.client(files[name])))
            )
            for name in SHOWN
        }


def address(route: str) -> str:
    """Where the route is asked."""
    path, more = route.partition(" ")[2], routes.MORE.get(route, "")
    named = {} if more.startswith("?") or not more else {"name": more}
    return path.format(**{**routes.FILLED, **named}) + (more if more.startswith("?") else "")


def headers(route: str) -> dict[str, str]:
    method, _, path = route.partition(" ")
    if path.startswith("/oauth"):
        # They answer under the node's own name alone.
        return {"Host": "matrix.test", "Content-Type": "application/x-www-form-urlencoded"}
    return {"Accept": "application/json" if path.startswith("/sse") and method == "GET" else BOTH}


def kind_of(body: bytes) -> str:
    said = json.loads(body) if body.startswith(b"{") else {}
    error = said.get("error")
    return str(error.get("data", {}).get("kind", "") if isinstance(error, dict) else said.get("kind", ""))


async def word(world: World, shown: dict[str, aiohttp.ClientSession], route: str, who: str, expected: str) -> str:
    """What somebody gets at a route, as the table says it: its own word where status and kind are that word's."""
    method = route.partition(" ")[0]
    if who in shown:
        try:
            async with (
                asyncio.timeout(PATIENCE_S),
                shown[who].request(method, world.entry.url + address(route), headers=headers(route)) as answer,
            ):
                return f"{answer.status}"
        except aiohttp.ClientError:
            return "tls"
    body = routes.BODIES.get(route, {} if method in ("POST", "PUT") else None)
    if route.partition(" ")[2].startswith("/oauth") and body is not None:
        body = b"csrf=none"
    status, _, said = await world.ask(who, method, address(route), body, **headers(route))
    wanted, kind = routes.WORDS.get(expected, (0, ""))
    # Refusals of the protocol itself, and pages for browsers, name no kind.
    if status == wanted and kind_of(said) in (kind, ""):
        return expected
    return f"{status} {kind_of(said)}".strip()


async def test_every_route_of_the_application_has_its_row_and_every_row_a_route(world: World) -> None:
    assert world.entry.listener is not None
    there = set[str]()
    for route in world.entry.listener.app.router.routes():
        assert route.resource is not None
        methods = routes.EVERY if route.method == "*" else (route.method,)
        there |= {f"{method} {route.resource.canonical}" for method in methods if method != "HEAD"}
    assert there == ROWS.keys()


@pytest.mark.parametrize("route", ROWS)
async def test_everybody_gets_what_the_table_says(
    world: World, shown: dict[str, aiohttp.ClientSession], route: str
) -> None:
    expected = ROWS[route]
    told = [
        await word(world, shown, route, who, cell) for who, cell in zip(routes.COLUMNS, expected, strict=True)
    ]  # fmt: skip
    assert dict(zip(routes.COLUMNS, told, strict=True)) == dict(zip(routes.COLUMNS, expected, strict=True))


async def test_heads_are_answered_as_their_gets(world: World) -> None:
    assert world.entry.listener is not None
    for route in world.entry.listener.app.router.routes():
        if route.method != "HEAD":
            continue
        assert route.resource is not None
        get = f"GET {route.resource.canonical}"
        for who in EVERYBODY:
            statuses = {(await world.ask(who, method, address(get), **headers(get)))[0] for method in ("GET", "HEAD")}
            assert len(statuses) == 1, (get, who)


async def test_a_certificate_that_counts_opens_what_its_bearer_may(
    world: World, shown: dict[str, aiohttp.ClientSession]
) -> None:
    for path, status in (("/api/v1/servers", 200), ("/api/v1/status", 403)):
        async with shown["agent"].get(world.entry.url + path) as answer:
            assert answer.status == status
    # With somebody else's credential beside it nobody is believed.
    async with shown["agent"].get(f"{world.entry.url}/api/v1/status", headers=world.headers("admin")) as answer:
        assert answer.status == 401
