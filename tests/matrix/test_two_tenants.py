"""Two tenants at work at once, at two nodes, over all transports: nothing of one is ever seen by the other.

Each client marks what it sends, and whatever it hears is looked through for marks and names that are not its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import pytest_asyncio

from tests.matrix.agents import TRANSPORTS, Modern, Road, Said, opened
from tests.matrix.test_methods import word
from tests.matrix.world import World, digest, shelf, worlds
from tests.node.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

TENANTS = ("acme", "beta")
OTHER = {"acme": "beta", "beta": "acme"}
NODES = ("east", "west")
CLIENTS = 25
"""Of each tenant at each node, all at once: a hundred."""
KEYS = 5
ATTEMPTS = 3
MARK = re.compile(r"MARK-[a-z]+-[a-z]+-[0-9]+")
ADDED = {at: [f"{tenant}-{at}" for tenant in TENANTS] for at in NODES}


def _change(keys: dict[str, str]) -> Any:
    entries = []
    for tenant in TENANTS:
        for name, scopes in (*((f"{tenant}-k{n}", []) for n in range(KEYS)), (f"{tenant}-op", ["operator"])):
            keys[name] = f"tm_{name}_{secrets.token_urlsafe(24)}"
            said = {"tenant": tenant, "groups": ["users"], "scopes": scopes}
            entries.append({"name": name, "sha256": digest(keys[name]), **said})

    def change(node: str, settings: dict[str, Any]) -> None:
        settings["auth"] = {**settings["auth"], "keys": [*settings["auth"]["keys"], *entries]}
        for tenant in TENANTS if node in NODES else ():
            settings["servers"][f"{tenant}-{node}"] = shelf(f"{tenant}-{node}", tenant=tenant)
        if node == "west":
            # A session for each caller, as it is where nothing else is said.
            settings["servers"]["open"].pop("sessions")

    return change


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    keys: dict[str, str] = {}
    async with worlds(tmp_path_factory.mktemp("tenants"), _change(keys)) as made:
        made.keys |= keys
        for node in NODES:
            app = made.nodes[node]
            await until(app, lambda app=app: all(  # type: ignore[misc]
                (found := app.catalog.find(at, name)) is not None and found.up and found.tools
                for at, names in ADDED.items() for name in names
            ))  # fmt: skip
        yield made


@dataclass
class Client:
    tenant: str
    at: str
    number: int
    heard: int = 0

    @property
    def who(self) -> str:
        return f"{self.tenant}-k{self.number % KEYS}"

    @property
    def mark(self) -> str:
        return f"MARK-{self.tenant}-{self.at}-{self.number}"

    def check(self, said: Said) -> None:
        """Nothing of anybody else is in what was said."""
        text = said.raw.decode() + json.dumps(said.events)
        self.heard += len(MARK.findall(text))
        assert set(MARK.findall(text)) <= {self.mark}, (self, text)
        assert foreign(self.tenant, text) is None, (self, text)

    async def work(self, world: World) -> None:
        transport = TRANSPORTS[self.number % len(TRANSPORTS)]
        arguments = {"marker": self.mark}
        progress = {"_meta": {"progressToken": self.mark}}
        async with AsyncExitStack() as stack:
            roads: dict[str, Road] = {}
            mine = f"{self.tenant}-{NODES[self.number // 5 % 2]}"
            for path in (f"/mcp/{mine}", "/mcp/open", "/mcp", "/mcp-all"):
                road = await opened(stack, world, self.who, transport, path, self.at)
                assert not isinstance(road, Said), road
                roads[path] = road

            async def ask(path: str, method: str, expected: str = "ok", **params: Any) -> Said:
                said = await roads[path].ask(method, params)
                for _ in range(ATTEMPTS):
                    # On a busy machine, where all nodes share one loop, one may be taken for dead for a moment.
                    if "suspect" in said.raw.decode():
                        await world.meet()
                        said = await roads[path].ask(method, params)
                assert word(said) == expected or (expected == "failed" and "error" in said.message), said
                self.check(said)
                return said

            for path in (f"/mcp/{mine}", "/mcp/open"):
                said = await ask(path, "tools/call", name="echo", arguments=arguments, **progress)
                assert self.mark in json.dumps(said.message)
                said = await ask(path, "tools/call", "failed", name="fail", arguments=arguments)
                assert self.mark in json.dumps(said.message)
                await ask(path, "tools/list")
                await ask(path, "prompts/get", name="greet", arguments=arguments)
                await ask(path, "completion/complete", ref={"type": "ref/prompt", "name": "greet"},
                          argument={"name": "marker", "value": self.mark})  # fmt: skip
            use = {"mcp_server_name": mine, "mcp_tool_name": "echo", "params": arguments}
            await ask("/mcp", "tools/call", name="use_tool", arguments=use, **progress)
            await ask("/mcp", "tools/call", name="search_mcp_server", arguments={"task_description": "echo the shelf"})
            await ask("/mcp", "tools/call", name="mcp-find", arguments={"query": "shelf"})
            await ask("/mcp", "resources/read", uri="toolmesh://catalogue")
            await ask("/mcp-all", "tools/list")
            await ask("/mcp-all", "resources/list")
            await ask("/mcp-all", "tools/call", name=f"{mine}__echo", arguments=arguments)
            # What is the other's is asked for in so many words, and is not there; nor is what nobody has.
            theirs = mine.replace(self.tenant, OTHER[self.tenant])
            for name in (theirs, nobodys(theirs)):
                use = {**use, "mcp_server_name": name}
                assert word(await roads["/mcp"].ask("tools/call", {"name": "use_tool", "arguments": use})) == "hid"
                label = {"name": f"{name}__echo", "arguments": arguments}
                assert word(await roads["/mcp-all"].ask("tools/call", label)) == "hid"
        assert self.heard > 0


def nobodys(text: str) -> str:
    """With a name that nobody has instead of the other tenant's."""
    return re.sub("acme|beta", "zeta", text)


def foreign(tenant: str, text: str) -> str | None:
    """A name, a key or a mark of the other tenant, if there is one."""
    other = OTHER[tenant]
    found = re.search(rf"{other}-(east|west|op|k\d)|MARK-{other}", text)
    return found[0] if found else None


async def test_nobody_hears_of_another_under_load(world: World) -> None:
    clients = [Client(*which) for which in product(TENANTS, NODES, range(CLIENTS))]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.work(world))


async def test_operators_of_a_tenant_are_shown_their_own(world: World) -> None:
    """After the load: what is on record, in lists, in searches, of keys."""
    paths = (
        "/audit?kind=call&limit=1000",
        "/audit?kind=admin",
        "/keys",
        "/servers",
        "/search?q=echo+shelf&k=50",
        "/grants",
    )
    for tenant, at, path in product(TENANTS, NODES, paths):
        status, _, said = await world.ask(f"{tenant}-op", "GET", f"/api/v1{path}", at=at)
        if status == 404 and path == "/grants":
            continue
        assert status == 200, said
        assert foreign(tenant, said.decode()) is None, (path, foreign(tenant, said.decode()))
        if path.startswith(("/audit?kind=call", "/servers", "/search")):
            assert f"{tenant}-" in said.decode(), path
        assert not MARK.search(said.decode()), path


def told_of(name: str, records: list[dict[str, Any]]) -> set[str]:
    """The records about a server, without what belongs to each moment; the name is told alike for all."""
    own = ("kind", "action", "outcome", "reason", "rule", "what", "who", "node")
    about = ({k: r[k] for k in own if k in r} for r in records if r["what"].get("server") == name)
    return {nobodys(json.dumps(r["what"])) + json.dumps({k: v for k, v in r.items() if k != "what"}) for r in about}


async def test_the_record_does_not_tell_what_is_anothers_from_what_nobody_has(world: World) -> None:
    for tenant, at in product(TENANTS, NODES):
        status, _, said = await world.ask(f"{tenant}-op", "GET", "/api/v1/audit?kind=decision&limit=1000", at=at)
        assert status == 200, said
        records = json.loads(said)["records"]
        for node in NODES:
            theirs = told_of(f"{OTHER[tenant]}-{node}", records)
            assert theirs == told_of(f"zeta-{node}", records) != set(), (tenant, at, node)
        # Who operates the node is told the truth.
        _, _, told = await world.ask("admin", "GET", "/api/v1/audit?kind=system&limit=1000", at=at)
        assert f"is of tenant '{OTHER[tenant]}'" in told.decode()


async def test_arguments_are_in_nothing_that_operators_are_shown(world: World) -> None:
    paths = ("/metrics", *(f"/api/v1/{p}" for p in ("calls", "status", "audit?limit=1000", "peers", "policy/diff")))
    for at, path in product(NODES, paths):
        status, _, said = await world.ask("admin", "GET", path, at=at)
        assert status == 200, said
        assert not MARK.search(said.decode()), path
        if path == "/metrics":
            assert all(foreign(tenant, said.decode()) is None for tenant in TENANTS), "tenants' names are labels"


async def test_a_change_of_one_tenants_tools_is_told_to_that_tenant_alone(world: World) -> None:
    """Over a WebSocket, where an answer comes after everything that was to be said before it."""
    for at, tenant in product(NODES, TENANTS):
        async with AsyncExitStack() as stack:
            owner = f"{tenant}-west"
            roads = {}
            for who in TENANTS:
                road = await opened(stack, world, f"{who}-k0", "ws", "/mcp-all", at)
                assert not isinstance(road, Said)
                roads[who] = road
            new = f"grown-{tenant}-{at}"
            grow = {"name": "echo", "arguments": {"grow": new}}
            assert word(await Modern(world, f"{tenant}-k0", f"/mcp/{owner}", at).ask("tools/call", grow)) == "ok"
            app = world.nodes[at]
            await until(app, lambda app=app, new=new, owner=owner: new in app.catalog.find("west", owner).tools)  # type: ignore[misc,union-attr]
            told = {who: json.dumps((await road.ask("ping", {})).events) for who, road in roads.items()}
            assert "list_changed" in told[tenant], (at, told)
            assert "list_changed" not in told[OTHER[tenant]], (at, told)
