"""Every method of MCP at every endpoint × every transport × everybody who might ask."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from mcp_types.methods import SPEC_CLIENT_METHODS

from node.asking import ACCOMPANYING, READS, WITH_ARGUMENTS
from node.gateway import HOP_METHODS
from tests.matrix import methods
from tests.matrix.agents import BATCHES, TRANSPORTS, Forward, Road, Said, Session, opened, peering, piped
from tests.matrix.methods import Row
from tests.matrix.world import NOBODIES, PEOPLE, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = methods.rows()
PATHS = sorted({row.path for row in ROWS})
ERAS = {"modern": "new", "ws-modern": "new", "grpc": "any"}
KINDS = {
    "unauthenticated": "who", "scope_required": "scope", "unknown": "hid", "forbidden": "hid", "invalid": "bad",
}  # fmt: skip
HIDDEN = {"other", "admin"}
"""Who may not see `vault`."""
SERVERS = ("open", "vault", "shut", "scoped", "more")
LISTS = ("tools", "prompts", "resources", "resourceTemplates")


def word(said: Said) -> str:
    """What was said, in the table's words."""
    if said.status == 401:
        return "who"
    message = said.message
    if "result" in message:
        result = message["result"]
        if result.get("isError"):
            return KINDS.get(_kind((result.get("structuredContent") or {}).get("error")), json.dumps(message))
        listed = next((result[field] for field in LISTS if field in result), None)
        return "empty" if listed == [] else "ok"
    error = message.get("error") or {}
    data = error.get("data")
    if error.get("code") == -32601 or (isinstance(data, dict) and "method" in data):
        return "never"
    return KINDS.get(_kind(data), json.dumps(message))


def _kind(data: Any) -> str:
    return str(data.get("kind", "")) if isinstance(data, dict) else ""


def twin(row: Row, who: str) -> Row:
    """The same, of a name that nobody ever gave: another server where this caller may not see it, else another tool."""
    hidden = (who in HIDDEN and "vault" in str(row)) or "more" in str(row)

    def other(text: str) -> str:
        for name, instead in methods.TWINS.items():
            if (name in SERVERS) is hidden:
                text = text.replace(name, instead)
        return text

    meta, equals, target = row.what.rpartition("=")
    return row._replace(path=other(row.path), what=meta + equals + other(target))


def untwinned(raw: bytes) -> bytes:
    text = raw.decode()
    for name, instead in methods.TWINS.items():
        text = text.replace(instead, name)
    return text.encode()


class Roads:
    """One road for each place, transport and caller, opened when first asked for."""

    def __init__(self, world: World, stack: AsyncExitStack) -> None:
        self._world, self._stack = world, stack
        self._open: dict[tuple[str, str, str], Road | Said] = {}
        self._calls: Any = None

    async def of(self, who: str, transport: str, path: str) -> Road | Said:
        key = (who, transport, path)
        if key not in self._open:
            self._open[key] = await self._opened(*key)
        return self._open[key]

    async def _opened(self, who: str, transport: str, path: str) -> Road | Said:
        if transport == "stdio":
            return await piped(self._stack, self._world, who)
        if transport == "grpc":
            if self._calls is None:
                dialler = await self._stack.enter_async_context(peering(self._world))
                self._calls = dialler.open("Forward")
            return Forward(self._calls, who, path.removeprefix("/mcp/"), "honest")
        return await opened(self._stack, self._world, who, transport, path)

    async def ask(self, row: Row, who: str, transport: str) -> Said:
        road = await self.of(who, transport, row.path)
        if isinstance(road, Said):
            return road
        if row.method == "initialize":
            return Said(0, {"result": {}}, b"")
        return await road.ask(row.method, row.params)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def roads(world: World) -> AsyncIterator[Roads]:
    async with AsyncExitStack() as stack:
        yield Roads(world, stack)


def asked_over(row: Row) -> list[str]:
    """The transports of agents that have this row's method."""
    return [t for t in TRANSPORTS if row.era in ("both", ERAS.get(t, "old"))]


async def compared(roads: Roads, row: Row, who: str, transport: str, expected: str) -> str:
    """What is wrong with what this caller gets; empty if nothing is."""
    said = await roads.ask(row, who, transport)
    told = word(said)
    if told != expected:
        return f"{who} over {transport}: {told}, not {expected}"
    if told == "hid":
        nothing = untwinned((await roads.ask(twin(row, who), who, transport)).raw)
        if nothing != said.raw:
            return f"{who} over {transport}: {said.raw!r} is not what is said of nothing: {nothing!r}"
    return ""


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_everybody_gets_what_the_table_says(roads: Roads, row: Row) -> None:
    asked = [(who, transport) for transport in asked_over(row) for who in PEOPLE]
    asked += [(who, "modern") for who in NOBODIES if row.era != "old"]
    wrong = [await compared(roads, row, who, transport, row.expected(who)) for who, transport in asked]
    assert [w for w in wrong if w] == []


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_opens_anything_over_any_transport(roads: Roads, path: str) -> None:
    for transport in TRANSPORTS:
        for who in NOBODIES:
            said = await roads.ask(Row(path, "tools/list", "-", "both", ()), who, transport)
            assert word(said) == "who", (transport, who, said)


@pytest.mark.parametrize("who", ["other", "user", "admin"])
async def test_the_pipe_gives_what_the_table_says(roads: Roads, who: str) -> None:
    rows = [row for row in ROWS if row.path == "/mcp" and row.era != "new"]
    wrong = [await compared(roads, row, who, "stdio", row.expected(who)) for row in rows]
    assert [w for w in wrong if w] == []


@pytest.mark.parametrize("who", ["none", "revoked"])
async def test_the_pipe_opens_nothing_for_nobody(roads: Roads, who: str) -> None:
    said = await roads.ask(Row("/mcp", "tools/list", "-", "both", ()), who, "stdio")
    assert word(said) == "who", said


@pytest.mark.parametrize("row", [row for row in ROWS if row.path.startswith("/mcp/")], ids=str)
async def test_the_owner_decides_again_whichever_peer_asks(roads: Roads, row: Row) -> None:
    """By itself: what an edge answers travels to no owner, and who is nobody there has nothing to see."""
    if row.method in ("initialize", "ping") or (row.method, row.era) == ("tasks/result", "new"):
        # The peer says for whom it asks that they speak 2025-11-25.
        return
    wrong = []
    for who in (*PEOPLE, "none", "expired", "revoked"):
        expected = row.expected(who) if who in PEOPLE else "hid"
        if row.method in HOP_METHODS and row.method != "subscriptions/listen":
            expected = "never"
        wrong.append(await compared(roads, row, who, "grpc", expected))
    assert [w for w in wrong if w] == []


async def test_every_method_of_the_protocol_has_its_rows(world: World) -> None:
    """Of its methods each is asked at each kind of endpoint; ours, and tasks, beside them."""
    places = {"/mcp": "/mcp", "/mcp-all": "/mcp-all"}
    asked: dict[str, set[str]] = {}
    for row in ROWS:
        asked.setdefault(places.get(row.path, "/mcp/{name}"), set()).add(row.method)
    own = {"tasks/get", "tasks/result", "tasks/cancel", "tasks/update", "tasks/list", "odd/method"}
    for place, methods_asked in asked.items():
        assert methods_asked == {*SPEC_CLIENT_METHODS, *own}, place
    for routed in (READS, ACCOMPANYING, HOP_METHODS, WITH_ARGUMENTS):
        assert routed <= asked["/mcp/{name}"]


async def test_every_meta_tool_has_its_rows(roads: Roads) -> None:
    said = await roads.ask(Row("/mcp", "tools/list", "-", "both", ()), "user", "modern")
    there = {tool["name"] for tool in said.message["result"]["tools"]}
    asked = {row.what.partition("=")[0] for row in ROWS if row.path == "/mcp" and row.method == "tools/call"}
    assert asked == there


async def test_a_batch_gives_each_of_its_messages_what_the_table_says(world: World) -> None:
    rows = [row for row in ROWS if row.path == "/mcp" and row.method == "tools/call" and row.era == "both"]
    for who in PEOPLE:
        session = Session(world, who, "/mcp", "east", BATCHES)
        assert "result" in (await session.open()).message
        batch = [{"jsonrpc": "2.0", "id": n, "method": row.method, "params": row.params} for n, row in enumerate(rows)]
        said = await session.post(batch)
        told = {
            message["id"]: word(Said(0, message, b"")) for message in (said.message, *said.events) if "id" in message
        }
        assert told == {n: row.expected(who) for n, row in enumerate(rows)}, who
        await session.close()
    assert (await Session(world, "none", "/mcp", "east", BATCHES).post([])).status == 401


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_task_of_somebody_else_is_none(roads: Roads, transport: str) -> None:
    begun = await roads.ask(Row("/mcp/open", "tools/call", "task", "both", ()), "user", transport)
    task = re.search(r"open-\d+", begun.raw.decode())
    assert task is not None, begun
    for path, theirs in (("/mcp/open", task[0]), ("/mcp", f"open__{task[0]}"), ("/mcp-all", f"open__{task[0]}")):
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            for who in ("other", "landlord", "admin"):
                road = await roads.of(who, transport, path)
                assert not isinstance(road, Said)
                nobodys = theirs.replace("open-", "none-")
                said, none = [await road.ask(method, {"taskId": name}) for name in (theirs, nobodys)]
                removed = method == "tasks/result" and ERAS.get(transport) == "new"
                assert word(said) == ("never" if removed else "bad"), said
                assert none.raw.replace(b"none-", b"open-") == said.raw
    mine = await roads.of("user", transport, "/mcp/open")
    assert not isinstance(mine, Said)
    assert word(await mine.ask("tasks/get", {"taskId": task[0]})) == "ok"
