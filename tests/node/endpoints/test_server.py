"""`/mcp/{name}`: lists whole, in the server's order; listens and notifications passed on to that server alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from node.endpoints import server
from proto.errors import Unknown
from proto.names import NodeId
from proto.records import Kind
from tests.node.endpoints.conftest import caller_of

if TYPE_CHECKING:
    from tests.node.endpoints.conftest import Heard, House

EU, US = (NodeId("mesh.test", region, f"{region}-1") for region in ("eu", "us"))


async def test_a_list_is_one_page_in_the_servers_own_order(house: House) -> None:
    house.offer(EU, "wiki", Kind.TOOL, "z", "a", "m", "b", "c")
    pages = await house.pages("tools/list", "tools", at="wiki")
    assert [[tool["name"] for tool in page] for page in pages] == [["z", "a", "m", "b", "c"]]
    house.offer(EU, "wiki", Kind.TOOL, "d")
    pages = await house.pages("tools/list", "tools", at="wiki--eu-1")
    assert [[tool["name"] for tool in page] for page in pages] == [["z", "a", "m", "b", "c", "d"]]


async def test_beyond_its_bound_a_list_has_pages_in_the_order_of_names(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAGE_ITEMS", 2)
    house.offer(EU, "wiki", Kind.RESOURCE, "x:5", "x:1", "x:4", "x:2", "x:3")
    pages = await house.pages("resources/list", "resources", at="wiki")
    assert [[r["uri"] for r in page] for page in pages] == [["x:1", "x:2"], ["x:3", "x:4"], ["x:5"]]


async def test_a_list_shows_what_was_changed_meanwhile_and_to_each_caller_its_own(house: House) -> None:
    house.offer(EU, "payroll", Kind.TOOL, "one")
    for expected in (["one"], ["one", "two"]):
        assert [t["name"] for t in (await house.ask("tools/list", at="payroll"))["tools"]] == expected
        with pytest.raises(Unknown):
            await house.ask("tools/list", caller="intern", at="payroll")
        house.offer(EU, "payroll", Kind.TOOL, "two")
    house.withdraw(EU, "payroll", Kind.TOOL, "one")
    assert [t["name"] for t in (await house.ask("tools/list", at="payroll"))["tools"]] == ["two"]


async def test_a_server_that_tells_nothing_of_resources_is_not_asked_to(house: House, heard: Heard) -> None:
    house.offer(US, "plain", Kind.RESOURCE, "x:1", capabilities={"resources": {}})
    house.offer(US, "lively", Kind.RESOURCE, "y:1")
    both = {"notifications": {"resourceSubscriptions": ["x:1"], "taskIds": ["t"]}}
    alone = {"notifications": {"resourceSubscriptions": ["x:1"]}}
    listening = [
        asyncio.create_task(house.endpoints.endpoint(name).listen(params, caller_of("clerk"), heard))
        for name, params in (("plain", alone), ("plain", both), ("lively", both))
    ]
    events = await heard.until(3)
    assert [e["params"]["notifications"] for e in events] == [{}, {"taskIds": ["t"]}, both["notifications"]]
    assert [call.params for _, call in house.servers.calls] == [{"notifications": {"taskIds": ["t"]}}, both]
    for task in listening:
        task.cancel()
    await asyncio.wait(listening)
    assert house.servers.listening == {}


async def test_a_clients_notification_goes_to_the_server_of_the_address(house: House) -> None:
    house.offer(US, "wiki", Kind.TOOL, "read")
    async with asyncio.timeout(10):
        await house.endpoints.endpoint("wiki").notify("notifications/roots/list_changed", {"a": 1}, caller_of("clerk"))
    ((node, call),) = house.servers.calls
    assert (node, call.server, call.method, call.params) == (
        "us-1",
        "wiki",
        "notifications/roots/list_changed",
        {"a": 1},
    )
    with pytest.raises(Unknown):
        await house.endpoints.endpoint("payroll").notify("notifications/x", {}, caller_of("intern"))
