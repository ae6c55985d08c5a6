"""What a search finds for one caller: what it may see, what it can use, and where that lives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from federation.events import Liveness
from node.catalog import Catalog
from node.guard.keys import ApiKey
from node.hints import Hints
from node.indexing import Indexing
from node.ports import Caller
from node.searching import Searching
from node.standing import Standing
from proto.errors import Invalid, Unknown
from proto.names import NodeId
from proto.records import Kind, Principal, Record
from router.arguments import Search
from router.findings import Findings
from router.ports import Filter, SearchResult
from router.router import Router
from tests.node.guards import KeyGuard

MakeServer = Callable[..., list[Record]]
Nodes = tuple[NodeId, NodeId, NodeId]

CLERK = Caller(Principal("clerk", "mesh.test", kind="key"))
INTERN = Caller(Principal("intern", "mesh.test", kind="key"))
KEYS = [ApiKey("clerk", b"1" * 32), ApiKey("intern", b"2" * 32, servers=("wiki", "wiki-*"))]


class CountingRouter(Router):
    """A router that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(None, None)
        self.asked: list[tuple[int, Filter]] = []

    async def search(self, query: str, key_words: Any = (), **more: Any) -> SearchResult:
        self.asked.append((more["k"], more["only"]))
        return await super().search(query, key_words, **more)


class Desk:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.router = CountingRouter()
        self.standings: dict[str, Standing] = {}
        Indexing(catalog, self.router)
        guard = KeyGuard(KEYS, "mesh.test")
        self.searching = Searching(catalog, guard, self.router, lambda: self.standings, Hints(["wiki"], on=True))

    async def find(self, task: str, limit: int = 5, caller: Caller = CLERK, **more: Any) -> Findings:
        return await self.searching.find(Search(task, **more), limit, caller)


def tools(found: Findings) -> list[str]:
    return [f"{p.place.server}/{p.hit.entry.key.tool}" for p in found.usable]


@pytest.fixture
async def desk(catalog: Catalog) -> AsyncIterator[Desk]:
    desk = Desk(catalog)
    await desk.router.start()
    yield desk
    await desk.router.stop()


async def test_what_cannot_be_used_now_is_named_with_the_reason_and_takes_no_place(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page", "read_index"), [])
    cause = {"state": "down", "cause": "exit status 3"}
    catalog.apply(nodes[0], make_server("broken", "read_page_of_book", health=cause), [])
    catalog.apply(nodes[1], make_server("remote", "read_page_aloud"), [])
    catalog.set_liveness(nodes[1], Liveness.DOWN)
    found = await desk.find("read page", 2)
    assert tools(found) == ["wiki/read_page", "wiki/read_index"]
    reasons = {p.place.server: p.place.why_not for p in found.unusable}
    assert set(reasons.items()) <= {("broken", "it is down: exit status 3"), ("remote", "node us-1 is down")}
    assert len(reasons) >= 1


async def test_a_crowd_that_is_away_hides_nothing_that_can_be_used(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    for i in range(30):
        catalog.apply(nodes[1], make_server(f"away-{i}", f"read_page_number_{i}", service=f"s{i}"), [])
    catalog.apply(nodes[0], make_server("wiki", "read", "page_through", "other"), [])
    catalog.set_liveness(nodes[1], Liveness.DOWN)
    found = await desk.find("read page", 3)
    assert set(tools(found)) >= {"wiki/read", "wiki/page_through"}
    assert 1 <= len(found.unusable) <= 3
    assert all(p.place.why_not == "node us-1 is down" for p in found.unusable)


async def test_the_index_is_asked_once_unless_something_among_the_best_cannot_be_used(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    await desk.find("read page", 2)
    assert len(desk.router.asked) == 1
    catalog.apply(nodes[0], make_server("slow", "read_page_slowly", state="starting"), [])
    found = await desk.find("read page", 2)
    assert len(desk.router.asked) == 3
    assert tools(found) == ["wiki/read_page"]
    assert [p.place.why_not for p in found.unusable] == ["it is starting"]


async def test_a_tool_stands_in_for_one_that_is_nearly_the_same_and_cannot_be_used(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    for node, server in ((nodes[0], "books"), (nodes[1], "library")):
        catalog.apply(node, make_server(server, "read_page_aloud"), [])
    (one,) = (await desk.find("read page aloud")).usable
    assert (one.place.server, one.place.also) == ("books", ("library",))
    catalog.apply(nodes[0], make_server("books", "read_page_aloud", state="down"), [])
    found = await desk.find("read page aloud")
    assert tools(found) == ["library/read_page_aloud"]
    assert [p.place.server for p in found.unusable] in ([], ["books"])


async def test_a_search_is_narrowed_to_a_server_or_a_region(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    catalog.apply(nodes[1], make_server("books", "read_page"), [])
    assert tools(await desk.find("read page", server="books")) == ["books/read_page"]
    assert tools(await desk.find("read page", region="EU")) == ["wiki/read_page"]
    assert tools(await desk.find("read page", region="us", server="wiki")) == []
    with pytest.raises(Unknown, match=r"no server named 'boks'; .*; did you mean 'books'\?"):
        await desk.find("read page", server="boks")
    with pytest.raises(Invalid, match="no server that you may use is in region 'uss'; did you mean 'us'"):
        await desk.find("read page", region="uss")


async def test_a_hidden_server_is_answered_like_one_that_is_not_there(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    away = NodeId("mesh.test", "us-east", "us-2")
    catalog.apply(away, make_server("payroll", "read_page_of_salary"), [])
    refusals = []
    for server in ("payroll", "nothere"):
        with pytest.raises(Unknown) as e:
            await desk.find("read page", caller=INTERN, server=server)
        refusals.append(str(e.value).replace(server, "X"))
    for region in ("us-east", "nowhere"):
        with pytest.raises(Invalid) as r:
            await desk.find("read page", caller=INTERN, region=region)
        refusals.append(str(r.value).replace(region, "X"))
    assert refusals[0] == refusals[1]
    assert refusals[2] == refusals[3]
    # Whether it can be used or not is not told either.
    catalog.set_liveness(away, Liveness.DOWN)
    found = await desk.find("read page of salary", caller=INTERN)
    assert (tools(found), found.unusable, found.result.searched) == (["wiki/read_page"], [], 1)


async def test_what_is_hidden_changes_no_score_no_count_and_no_label(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page", "write_page", "list_pages", "burn_book"), [])
    await desk.find("read page", caller=CLERK)

    async def told() -> Any:
        found = await desk.searching.find(Search("read a page of a book"), 3, INTERN, explain=True)
        assert found.usable
        return replace(found.result, took_ms=0), found.unusable

    alone = await told()
    for i in range(40):
        catalog.apply(nodes[1], make_server(f"payroll-{i}", "read_page", f"read_page_{i}", f"book_{i}"), [])
    assert await told() == alone
    catalog.set_liveness(nodes[1], Liveness.DOWN)
    assert await told() == alone


def described(kind: Kind, server: str, name: str, **definition: Any) -> Record:
    field = {Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}[kind]
    return Record.of(kind, f"{server}/{name}", {field: name, **definition})


async def test_prompts_and_resources_are_found_where_they_are_asked_for_and_tools_elsewhere(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    records = [
        described(Kind.PROMPT, "wiki", "read_page_critically", description="Read a page and say what is wrong."),
        described(Kind.RESOURCE, "wiki", "wiki://home", description="Read the first page."),
        described(Kind.TEMPLATE, "wiki", "wiki://page/{name}", description="Read any page."),
    ]
    catalog.apply(nodes[0], records, [])
    assert tools(await desk.find("read a page")) == ["wiki/read_page"]
    assert tools(await desk.find("read a page", kind="prompt")) == ["wiki/read_page_critically"]
    assert set(tools(await desk.find("read a page", kind="resource"))) == {
        "wiki/wiki://home",
        "wiki/wiki://page/{name}",
    }
    catalog.apply(nodes[0], [], [r.key for r in records])
    assert tools(await desk.find("read a page", kind="prompt")) == []


async def test_where_no_tool_fits_a_prompt_that_does_is_told(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.apply(nodes[0], make_server("wiki", "read_page"), [])
    catalog.apply(nodes[0], [described(Kind.PROMPT, "wiki", "write_haiku", description="Write a haiku.")], [])
    searched = desk.router.search

    async def sure_of_prompts(query: str, key_words: Any = (), **more: Any) -> SearchResult:
        result = await searched(query, key_words, **more)
        return replace(result, confidence="none" if more["kinds"] == ("tool",) else "high")

    monkeypatch.setattr(desk.router, "search", sure_of_prompts)
    instead = (await desk.find("write a haiku")).instead
    assert instead is not None
    assert instead.hit.entry.key == ("eu-1", "wiki", "write_haiku", "prompt")


async def test_of_equal_tools_the_nearer_and_the_steadier_server_comes_first(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    catalog.apply(nodes[1], make_server("a-far", "fetch_stock_price"), [])
    catalog.apply(nodes[0], make_server("z-near", "fetch_stock_price"), [])
    assert tools(await desk.find("fetch stock price"))[0] == "z-near/fetch_stock_price"
    failing = desk.standings["z-near--eu-1"] = Standing(average_ms=30_000)
    for _ in range(4):
        failing.begin()
        failing.failed(0)
    assert tools(await desk.find("fetch stock price"))[0] == "a-far/fetch_stock_price"


async def test_what_only_reads_is_marked_where_its_server_is_believed(
    desk: Desk, catalog: Catalog, nodes: Nodes, make_server: MakeServer
) -> None:
    for server, tool in (("wiki", "read_page"), ("liar", "read_page_twice")):
        reads = {"name": tool, "annotations": {"readOnlyHint": True}}
        catalog.apply(nodes[0], [*make_server(server), Record.of(Kind.TOOL, f"{server}/{tool}", reads)], [])
    catalog.apply(nodes[0], make_server("wiki", "read_and_burn_page"), [])
    found = await desk.find("read page")
    marked = {f"{p.place.server}/{p.hit.entry.key.tool}": p.place.read_only for p in found.usable}
    assert marked["wiki/read_page"] is True
    assert not any(said for name, said in marked.items() if name != "wiki/read_page")
