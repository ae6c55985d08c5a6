"""`toolmesh://catalogue`: what stands in it, for whom, and when it changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from federation.events import Liveness
from node.endpoints import summary
from node.endpoints.summary import SERVERS_SHOWN, URI
from proto.errors import Unknown
from proto.records import Kind
from tests.node.endpoints.conftest import EU, US, Heard, House, caller_of


async def text_of(house: House, caller: str = "clerk") -> str:
    result = await house.ask("resources/read", {"uri": URI}, caller, at=None)
    (contents,) = result["contents"]
    assert (contents["uri"], contents["mimeType"]) == (URI, "text/markdown")
    return str(contents["text"])


async def test_it_is_the_one_resource_and_is_promised(house: House) -> None:
    listed = await house.ask("resources/list", at=None)
    assert [r["uri"] for r in listed["resources"]] == [URI]
    assert await house.ask("resources/templates/list", at=None) == {"resourceTemplates": []}
    with pytest.raises(Unknown):
        await house.ask("resources/read", {"uri": "toolmesh://other"}, at=None)
    with pytest.raises(Unknown):
        await house.ask("resources/read", {}, at=None)
    described = house.endpoints.endpoint(None).describe(caller_of("clerk"))
    assert described["capabilities"]["resources"] == {"listChanged": False, "subscribe": True}


async def test_each_server_has_a_line_with_what_it_is_for_and_offers(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "read", "write", instructions="Pages of the house. Read before you write.")
    house.offer(EU, "wiki", Kind.PROMPT, "review", instructions="Pages of the house. Read before you write.")
    house.offer(US, "units", Kind.TOOL, "convert", service="measures")
    house.offer(EU, "units", Kind.TOOL, "convert", service="measures")
    assert await text_of(house) == (
        "2 servers. Find tools with search_mcp_server.\n\n"
        "- measures (1 tool; eu, us)\n"
        "- wiki: Pages of the house. (2 tools, 1 prompt; eu)\n"
    )


async def test_what_a_caller_may_not_see_is_neither_named_nor_counted(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "read")
    alone = await text_of(house, "intern")
    house.offer(US, "payroll", Kind.TOOL, "raise")
    assert await text_of(house, "intern") == alone
    assert "payroll" in await text_of(house)


async def test_the_text_stays_byte_for_byte_while_nothing_is_listed_anew(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "read")
    before = await text_of(house)
    house.offer(EU, "wiki", Kind.TOOL, "read", health={"state": "down", "cause": "x"})
    house.catalog.set_liveness(EU, Liveness.DRAINING)
    assert await text_of(house) == before
    house.offer(EU, "wiki", Kind.TOOL, "write")
    assert "(2 tools; eu)" in await text_of(house)


async def test_a_large_mesh_is_cut_and_the_rest_counted(house: House) -> None:
    for i in range(SERVERS_SHOWN + 3):
        house.offer(EU, f"server-{i}", Kind.TOOL, "t")
    lines = (await text_of(house)).splitlines()
    assert len(lines) == SERVERS_SHOWN + 3
    assert lines[-1] == "… and 3 more: search for what a tool should do"


async def test_whoever_subscribes_hears_of_changes_that_it_can_see(
    house: House, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "REST_S", 0)
    asked: dict[str, Any] = {"notifications": {"resourceSubscriptions": [URI, "wiki://home"]}}
    listening = asyncio.create_task(house.endpoints.endpoint(None).listen(asked, caller_of("intern"), heard))
    (honoured,) = await heard.until(1)
    assert honoured["params"]["notifications"] == {"resourceSubscriptions": [URI]}
    house.offer(US, "payroll", Kind.TOOL, "raise")
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(heard.events) == 1
    house.offer(EU, "wiki", Kind.TOOL, "read")
    *_, told = await heard.until(2)
    assert told == {"method": "notifications/resources/updated", "params": {"uri": URI}}
    listening.cancel()
    await asyncio.wait([listening])
    assert len(heard.events) == 2
