"""Whatever servers and names there are: each thing is listed once, found back, and given once while others come."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proto.names import LISTED_TOOL_MAX, NodeId, qualified
from proto.records import Kind
from tests.node.endpoints.conftest import House

NODES = [NodeId("mesh.test", "eu", "eu-1"), NodeId("mesh.test", "us", "us-" + "n" * 29)]
SERVERS = st.one_of(
    st.from_regex(r"[a-z0-9]{1,4}(-[a-z0-9]{1,20}){0,1}(-[a-z0-9]{1,14}){0,1}", fullmatch=True),
    # Few enough to be met on both nodes, where a name is as long as names can be: then the server's part is cut too.
    st.sampled_from(["s" * 40, "s" * 39, "s" * 18, "s" * 19, "s" * 20, "s" * 21, "s" * 22, "wiki"]),
)
TOOLS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,70}", fullmatch=True),
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40),
    # What looks like a name that was cut.
    st.from_regex(r"[a-z]{0,3}_{1,3}[0-9a-f]{8}", fullmatch=True),
)
OFFERS = st.lists(st.tuples(st.sampled_from(NODES), SERVERS, TOOLS), max_size=20)


def filled(offers: list[tuple[NodeId, str, str]], page_items: int) -> House:
    house = House(page_items)
    for node, server, tool in offers:
        house.offer(node, server, Kind.TOOL, tool)
    return house


async def listed(house: House, cursor: str | None = None) -> tuple[list[str], str | None]:
    result = await house.ask("tools/list", {"cursor": cursor} if cursor else {})
    return [tool["name"] for tool in result["tools"]], result.get("nextCursor")


@settings(max_examples=60, deadline=None)
@given(OFFERS)
def test_every_listed_name_is_safe_alone_and_leads_back(offers: list[tuple[NodeId, str, str]]) -> None:
    async def check() -> None:
        house = filled(offers, 1_000)
        names, _ = await listed(house)
        offered = {(qualified(server, node.name), tool) for node, server, tool in offers}
        assert len(names) == len(set(names)) == len(offered)
        assert all(len(name) <= LISTED_TOOL_MAX and name.isascii() for name in names)
        reached = set()
        for name in names:
            result = await house.ask("tools/call", {"name": name})
            reached.add((result["at"], result["params"]["name"]))
        assert reached == offered

    asyncio.run(check())


@settings(max_examples=60, deadline=None)
@given(
    OFFERS, st.lists(st.tuples(st.booleans(), st.sampled_from(NODES), SERVERS, TOOLS), max_size=12), st.integers(1, 5)
)
def test_what_stays_is_given_once_whatever_comes_and_goes_between_pages(
    offers: list[tuple[NodeId, str, str]], changes: list[tuple[bool, NodeId, str, str]], page_items: int
) -> None:
    async def check() -> None:
        house = filled(offers, page_items)

        async def all_now() -> set[str]:
            return {name for page in await house.pages("tools/list", "tools") for name in map(_name, page)}

        stayed = await all_now()
        given: list[str] = []
        cursor: str | None = None
        pending = list(changes)
        while True:
            page, cursor = await listed(house, cursor)
            given += page
            if cursor is None:
                break
            if pending:
                joins, node, server, tool = pending.pop()
                if joins:
                    house.offer(node, server, Kind.TOOL, tool)
                else:
                    # Whoever is there, by the place that was drawn.
                    owned = sorted(house.catalog.owners[node.name].servers) if node.name in house.catalog.owners else []
                    if owned:
                        house.withdraw(node, owned[len(server) % len(owned)])
                stayed &= await all_now()
        assert len(given) == len(set(given))
        assert stayed <= set(given)

    asyncio.run(check())


def _name(tool: dict[str, Any]) -> str:
    return str(tool["name"])
