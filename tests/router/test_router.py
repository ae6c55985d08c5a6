from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from proto.errors import Exhausted, Invalid, Unavailable
from router import router as router_module
from router.feedback import Feedback
from router.memory import HashingEmbedder, MemoryStore
from router.ports import Filter, ToolEntry, ToolKey, Vectors
from router.queries import K_MAX, KEY_WORDS_MAX, QUERY_MAX
from router.router import Router

MakeEntry = Callable[..., ToolEntry]
MakeRouter = Callable[..., Awaitable[Router]]


class Counting(HashingEmbedder):
    """Keeps what it was asked to embed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        self.asked += texts
        return super().embed(texts)


class Gated(HashingEmbedder):
    """Loads only once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def load(self) -> None:
        assert self.gate.wait(30)
        super().load()


class Broken(HashingEmbedder):
    def load(self) -> None:
        raise Unavailable("the model is not here: install it")


class Failing(HashingEmbedder):
    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        raise RuntimeError("out of luck")


class FullStore(MemoryStore):
    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        raise Unavailable("the disk is full")


def tools(result: object) -> list[str]:
    return [hit.entry.key.tool for hit in result.hits]  # type: ignore[attr-defined]


async def test_the_fitting_tool_comes_first(make_router: MakeRouter, sample: list[ToolEntry]) -> None:
    router = await make_router(sample)
    result = await router.search("convert money to another currency", k=3)
    assert tools(result)[0] == "convert_currency"
    assert len(result.hits) == 3
    assert result.mode == "hybrid"
    assert repr(router) == "Router(hybrid, 8 tools, 8 embedded, 0 pending)"


async def test_without_an_embedder_search_is_lexical_for_good_and_says_so(
    make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    router = await make_router(sample, lexical=True)
    result = await router.search("send an email")
    assert (tools(result)[0], result.mode) == ("send_email", "lexical")
    status = router.status()
    assert (status.mode, status.embedder, status.embedded, status.pending) == ("lexical", "", 0, 0)
    assert status.problem == "no embedder is configured"


async def test_by_words_alone_what_shares_no_word_is_not_shown(
    make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    router = await make_router(sample, lexical=True)
    result = await router.search("zeppelin")
    assert (result.hits, result.confidence) == ((), "none")


async def test_tools_are_found_by_their_words_while_the_model_loads(sample: list[ToolEntry]) -> None:
    embedder = Gated()
    router = Router(embedder, None)
    await router.start()
    router.apply(sample, ())
    assert tools(await router.search("weather in a city"))[0] == "weather_forecast"
    assert router.status().mode == "lexical"
    assert router.status().pending == len(sample)
    embedder.gate.set()
    await router.settled()
    assert (await router.search("weather in a city")).mode == "hybrid"
    assert router.status().pending == 0
    await router.stop()


@pytest.mark.parametrize("embedder", [Broken(), Failing()])
async def test_a_failing_model_leaves_search_lexical_and_its_reason_in_the_status(
    embedder: HashingEmbedder, make_router: MakeRouter, sample: list[ToolEntry]
) -> None:
    router = await make_router(sample, embedder=embedder)
    result = await router.search("send an email")
    assert (tools(result)[0], result.mode) == ("send_email", "lexical")
    status = router.status()
    assert status.mode == "lexical"
    assert status.pending == 0
    assert status.problem in ("the model is not here: install it", "RuntimeError: out of luck")


async def test_a_change_is_seen_by_the_next_search(
    make_router: MakeRouter, sample: list[ToolEntry], entry: MakeEntry
) -> None:
    router = await make_router(sample)
    new = entry("launch_rocket", "Launch a rocket into orbit.")
    router.apply([new], ())
    assert tools(await router.search("launch a rocket", k=1)) == ["launch_rocket"]
    router.apply([], [new.key])
    assert "launch_rocket" not in tools(await router.search("launch a rocket", k=20))
    await router.settled()
    assert router.status().tools == router.status().embedded == len(sample)


async def test_a_new_definition_takes_the_place_of_the_old(make_router: MakeRouter, entry: MakeEntry) -> None:
    router = await make_router([entry("tool", "Bake a cake.")])
    router.apply([entry("tool", "Paint a wall.")], ())
    await router.settled()
    (hit,) = (await router.search("paint a wall")).hits
    assert hit.entry.definition["description"] == "Paint a wall."
    assert router.status().tools == 1


async def test_a_hidden_tool_neither_appears_nor_takes_a_place(make_router: MakeRouter, entry: MakeEntry) -> None:
    hidden = [entry(f"secret_{i}", "Convert one currency to another currency.", server="vault") for i in range(400)]
    open_tools = [entry(f"open_{i}", f"Convert files, kind {i}.", server="shop") for i in range(5)]
    router = await make_router([*hidden, *open_tools])
    only = Filter("public", lambda e: e.key.server != "vault")
    assert tools(await router.search("convert one currency to another currency", k=1))[0].startswith("secret_")
    seen = await router.search("convert one currency to another currency", k=5, only=only)
    assert sorted(tools(seen)) == [f"open_{i}" for i in range(5)]
    named = await router.search("secret_3", k=50, only=only)
    assert not [t for t in tools(named) if t.startswith("secret")]


async def test_hidden_tools_do_not_change_the_order_or_score_by_meaning(
    make_router: MakeRouter, sample: list[ToolEntry], entry: MakeEntry
) -> None:
    only = Filter("sample", lambda e: e.key.server != "vault")
    plain = await make_router(sample)
    crowded = await make_router([*sample, *(entry(f"x{i}", "Zzz.", server="vault") for i in range(50))])
    query = "write text into a file"
    before = await plain.search(query, k=8, only=only)
    after = await crowded.search(query, k=8, only=only)
    assert tools(before)[:3] == tools(after)[:3]


async def test_a_tool_that_takes_a_freed_slot_is_judged_by_its_own_filter(
    make_router: MakeRouter, entry: MakeEntry
) -> None:
    first = [entry(f"open_{i}", "Read the news.") for i in range(400)]
    router = await make_router(first)
    only = Filter("public", lambda e: e.key.tool.startswith("open"))
    assert len((await router.search("read the news", k=50, only=only)).hits) == 50
    router.apply([entry(f"secret_{i}", "Read the news.") for i in range(400)], [e.key for e in first])
    await router.settled()
    assert (await router.search("read the news", k=50, only=only)).hits == ()


async def test_replicas_of_a_declared_service_are_one_hit(make_router: MakeRouter, entry: MakeEntry) -> None:
    owners = ("ap-1", "eu-1", "us-1")
    same = [entry("now", "Tell the time.", owner=o, server="clock", service="clock") for o in owners]
    other = entry("now", "Tell the time, roughly.", owner="us-2", server="clock", service="clock")
    undeclared = entry("now", "Tell the time.", owner="zz-1", server="clock")
    router = await make_router([*same, other, undeclared])
    result = await router.search("tell the time", k=5)
    assert [(h.entry.key.owner, [r.owner for r in h.replicas]) for h in result.hits] == [
        ("ap-1", ["eu-1", "us-1"]),
        ("zz-1", []),
        ("us-2", []),
    ]
    only = Filter("no eu", lambda e: not e.key.owner.startswith("eu"))
    assert (await router.search("tell the time", k=1, only=only)).hits[0].replicas == (ToolKey("us-1", "clock", "now"),)


async def test_collapsed_replicas_do_not_use_up_the_places(make_router: MakeRouter, entry: MakeEntry) -> None:
    many = [entry("now", "Tell the time.", owner=f"n{i}", server="clock", service="clock") for i in range(60)]
    router = await make_router([*many, entry("today", "Tell the date."), entry("moon", "Tell the phase of the moon.")])
    assert sorted(tools(await router.search("tell the time", k=3))) == ["moon", "now", "today"]


async def test_a_tool_named_outright_comes_first_and_is_sure(make_router: MakeRouter, sample: list[ToolEntry]) -> None:
    router = await make_router(sample)
    for query in ("resize_image", "resizeImage", "use images/resize_image on what I read from the file"):
        result = await router.search(query)
        assert (tools(result)[0], result.confidence) == ("resize_image", "high")


async def test_key_words_point_the_way(make_router: MakeRouter, entry: MakeEntry) -> None:
    router = await make_router([entry("search", "Search issues.", server=s) for s in ("github", "gitlab", "jira")])
    result = await router.search("search issues", ["gitlab"], k=1)
    assert result.hits[0].entry.key.server == "gitlab"
    assert (await router.search("", ["gitlab"], k=1)).hits[0].entry.key.server == "gitlab"


async def test_equal_texts_are_embedded_once_whoever_offers_them(make_router: MakeRouter, entry: MakeEntry) -> None:
    embedder = Counting()
    copies = [entry("now", "Tell the time.", owner=f"n{i}", server="clock") for i in range(20)]
    router = await make_router(copies, embedder=embedder)
    assert sorted(embedder.asked) == ["clock now", "now: Tell the time."]
    assert router.status().embedded == 20


async def test_a_restart_takes_vectors_from_the_store(make_router: MakeRouter, sample: list[ToolEntry]) -> None:
    store, second = MemoryStore(), Counting()
    first = await make_router(sample, store=store)
    expected = await first.search("read text from disk", k=8)
    await first.stop()
    router = await make_router(sample, embedder=second, store=store)
    assert second.asked == []
    assert (await router.search("read text from disk", k=8)).hits == expected.hits


async def test_labels_change_without_embedding_again(make_router: MakeRouter, entry: MakeEntry) -> None:
    embedder = Counting()
    router = await make_router([entry("now", "Tell the time.")], embedder=embedder)
    asked = len(embedder.asked)
    router.apply([entry("now", "Tell the time.", labels={"team": "a"})], ())
    await router.settled()
    assert len(embedder.asked) == asked
    assert (await router.search("time")).hits[0].entry.labels == {"team": "a"}


async def test_a_store_that_fails_costs_the_keeping_only(make_router: MakeRouter, sample: list[ToolEntry]) -> None:
    router = await make_router(sample, store=FullStore())
    assert (await router.search("send an email")).mode == "hybrid"
    assert router.status().embedded == len(sample)
    assert router.status().problem == "vectors are not kept: the disk is full"


@pytest.mark.parametrize(
    ("query", "key_words", "k", "message"),
    [
        ("", [], 5, "empty"),
        ("  \n", [" "], 5, "empty"),
        ("x" * (QUERY_MAX + 1), [], 5, f"at most {QUERY_MAX}"),
        ("x", ["y"] * (KEY_WORDS_MAX + 1), 5, f"at most {KEY_WORDS_MAX}"),
        ("x", ["y" * 201], 5, "200 characters"),
        ("x", [], 0, f"1 to {K_MAX}"),
        ("x", [], K_MAX + 1, f"1 to {K_MAX}"),
    ],
)
async def test_a_query_out_of_bounds_is_refused_by_name(
    query: str, key_words: list[str], k: int, message: str, make_router: MakeRouter
) -> None:
    router = await make_router([])
    with pytest.raises(Invalid, match=message):
        await router.search(query, key_words, k=k)


async def test_an_empty_index_answers_with_nothing(make_router: MakeRouter) -> None:
    result = await (await make_router([])).search("anything")
    assert (result.hits, result.confidence) == ((), "none")


async def test_equal_searches_give_equal_answers_whatever_the_order_of_arrival(
    make_router: MakeRouter, entry: MakeEntry
) -> None:
    entries = [entry("now", "Tell the time.", owner=o) for o in ("c", "a", "b")]
    one, two = await make_router(entries), await make_router(entries[::-1])
    hits = (await one.search("time")).hits
    assert [h.entry.key.owner for h in hits] == ["a", "b", "c"]
    assert (await two.search("time")).hits == hits


async def test_too_many_waiting_searches_are_refused(
    make_router: MakeRouter, sample: list[ToolEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "SEARCHES_WAITING_MAX", 2)
    router = await make_router(sample)
    gate = threading.Event()
    slow = Filter("slow", lambda _: gate.wait(30))
    waiting = [asyncio.ensure_future(router.search("file", only=slow)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted, match="waiting"):
        await router.search("file")
    gate.set()
    await asyncio.gather(*waiting)
    assert (await router.search("file")).hits


async def test_changes_and_searches_at_once_leave_a_sound_index(make_router: MakeRouter, entry: MakeEntry) -> None:
    router = await make_router([])
    for turn in range(20):
        router.apply([entry(f"tool_{turn}_{i}", f"Do thing {i}.") for i in range(30)], ())
        if turn:
            router.apply([], [ToolKey("eu-1", "tools", f"tool_{turn - 1}_{i}") for i in range(0, 30, 2)])
        found = await router.search("do thing 7", k=50)
        assert not {f"tool_{turn - 1}_{i}" for i in range(0, 30, 2)} & set(tools(found))
    await router.settled()
    status = router.status()
    assert status.tools == status.embedded == 30 + 19 * 15


async def test_stopping_twice_and_searching_afterwards_are_answered(
    make_router: MakeRouter, sample: list[ToolEntry], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "toolmesh.router"):
        router = await make_router(sample)
    assert "8 of 8 tools are searchable by meaning" in caplog.text
    await router.stop()
    await router.stop()
    with pytest.raises(Unavailable, match="shutting down"):
        await router.search("file")
    with pytest.raises(Unavailable, match="stopped"):
        await router.settled()


async def test_a_query_of_signs_names_no_tool(make_router: MakeRouter, entry: MakeEntry) -> None:
    router = await make_router([entry("_", "Do nothing."), entry("read", "Read.")])
    assert (await router.search("!?")).confidence != "high"


async def test_a_tool_that_use_has_taught_comes_first_and_says_so(make_router: MakeRouter, entry: MakeEntry) -> None:
    feedback = Feedback()
    near = [entry("now", "Tell the time.", owner=o, server="clock") for o in ("a", "b")]
    router = await make_router([*near, entry("today", "Tell the date.")], feedback=feedback)
    before = await router.search("tell the time", explain=True, principal="ann")
    assert [h.entry.key.owner for h in before.hits][:2] == ["a", "b"]
    feedback.shown("ann", before.vector, [h.entry for h in before.hits])
    feedback.called("ann", near[1], ok=True)
    after = await router.search("tell the time", explain=True, principal="ann")
    assert [(h.entry.key.owner, h.why.feedback > 0) for h in after.hits if h.why][:2] == [("b", True), ("a", False)]
    # Defined anew, it has that name only.
    router.apply([entry("now", "Tell the time, at last.", owner="b", server="clock")], ())
    again = await router.search("tell the time", explain=True, principal="ann")
    assert not [h for h in again.hits if h.why and h.why.feedback]


async def test_preference_settles_what_is_level_and_no_more(make_router: MakeRouter, entry: MakeEntry) -> None:
    near = [entry("now", "Tell the time.", owner=o, server="clock") for o in ("a", "b")]
    router = await make_router([*near, entry("bake", "Bake a cake.", owner="c")])
    wish = {"a": -1.0, "b": 0.5, "c": 900.0}
    result = await router.search("tell the time", prefer=lambda e: wish[e.key.owner], explain=True)
    assert [(h.entry.key.owner, h.why.preference) for h in result.hits if h.why] == [
        ("b", 0.05),
        ("a", -0.1),
        ("c", 0.1),
    ]


async def test_the_parts_of_a_score_are_told_where_asked_for(make_router: MakeRouter, sample: list[ToolEntry]) -> None:
    router = await make_router(sample)
    assert (await router.search("send_email")).hits[0].why is None
    why = (await router.search("send_email", explain=True)).hits[0].why
    assert why is not None
    assert (why.words_rank, why.meaning_rank) == (1, 1)
    assert why.name >= 10
    assert why.words > 0
    assert why.meaning > 0


async def test_only_tools_are_searched_unless_other_kinds_are_asked_for(
    make_router: MakeRouter, entry: MakeEntry
) -> None:
    prompt = replace(entry("review", "Review code."), key=ToolKey("eu-1", "tools", "review", "prompt"))
    router = await make_router([entry("review", "Review code."), prompt])
    assert [h.entry.key.kind for h in (await router.search("review code")).hits] == ["tool"]
    both = await router.search("review code", kinds=("tool", "prompt"))
    assert ([h.entry.key.kind for h in both.hits], both.searched) == (["prompt", "tool"], 2)
