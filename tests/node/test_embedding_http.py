"""The embedder that asks an endpoint, against a real server that misbehaves in each way."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr

from node import embedding_http
from node.app import App
from node.config import parse
from node.embedding_http import HttpEmbedder, read_vectors
from node.settings.endpoint import EndpointSection
from proto.errors import Invalid, Unavailable
from router.ports import ToolEntry, ToolKey
from router.router import Router

WIDTH = 8
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def vector(text: str) -> list[float]:
    """Counts letters, so that texts of the same letters are near each other."""
    counts = [1.0] + [0.0] * (WIDTH - 1)
    for letter in text.lower():
        counts[ord(letter) % WIDTH] += 1
    return counts


def good(asked: dict[str, Any]) -> dict[str, Any]:
    """As the API has it, last text first: the index tells whose a vector is."""
    data = [{"index": i, "object": "embedding", "embedding": vector(t)} for i, t in enumerate(asked["input"])]
    return {"object": "list", "model": asked["model"], "data": data[::-1]}


class Endpoint:
    """A server whose next answers are given; when none is left it behaves."""

    def __init__(self) -> None:
        self.next: list[Answer] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        self.keys.append(request.headers.get("Authorization", ""))
        if self.next:
            return await self.next.pop(0)(request, asked)
        return web.json_response(good(asked))


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/embeddings", endpoint.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield endpoint
    await runner.cleanup()


Make = Callable[..., Awaitable[HttpEmbedder]]


@pytest.fixture
async def make(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(embedding_http, "FIRST_PAUSE_S", 0.01)
    made: list[HttpEmbedder] = []

    async def make(**settings: Any) -> HttpEmbedder:
        embedder = HttpEmbedder(EndpointSection(**{"url": endpoint.url, "model": "letters"} | settings))
        made.append(embedder)
        await embedder.open()
        return embedder

    yield make
    for embedder in made:
        await embedder.close()


def status(code: int, body: str = "no", **headers: str) -> Answer:
    async def answer(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=code, text=body, headers=headers)

    return answer


def body(change: Callable[[dict[str, Any]], Any]) -> Answer:
    async def answer(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        told = good(asked)
        changed = change(told)
        return web.json_response(told if changed is None else changed)

    return answer


def raw(text: str) -> Answer:
    return status(200, text)


async def closed(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def silent(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


def embed(embedder: HttpEmbedder, texts: list[str], **how: Any) -> Awaitable[Any]:
    return asyncio.to_thread(embedder.embed, texts, **how)


async def test_vectors_come_in_the_order_of_the_texts_and_of_length_one(endpoint: Endpoint, make: Make) -> None:
    embedder = await make(batch_size=2, api_key=SecretStr("s3cret"))
    texts = ["read a file", "x", "write"]
    vectors = await embed(embedder, texts)
    expected = np.array([vector(t) for t in texts])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32
    assert [a["input"] for a in endpoint.asked] == [texts[:2], texts[2:]]
    assert endpoint.asked[0]["model"] == "letters"
    assert endpoint.keys == ["Bearer s3cret"] * 2
    assert (await embed(embedder, [])).shape == (0, WIDTH)


async def test_base64_is_understood(endpoint: Endpoint, make: Make) -> None:
    def packed(told: dict[str, Any]) -> None:
        for item in told["data"]:
            numbers = np.array(item["embedding"], dtype="<f4").tobytes()
            item["embedding"] = base64.b64encode(numbers).decode()

    embedder = await make()
    endpoint.next = [body(packed)]
    np.testing.assert_array_equal(await embed(embedder, ["abc"]), await embed(embedder, ["abc"]))


async def test_loading_finds_out_the_width_and_the_id_says_whose_vectors_they_are(
    endpoint: Endpoint, make: Make
) -> None:
    embedder = await make()
    address = endpoint.url.removeprefix("http://")
    assert embedder.model_id == f"letters@{address}"
    with pytest.raises(Unavailable, match="dimensions"):
        _ = embedder.dimensions
    await asyncio.to_thread(embedder.load)
    assert embedder.dimensions == WIDTH
    chosen = await make(dimensions=WIDTH)
    await embed(chosen, ["a"])
    assert endpoint.asked[-1]["dimensions"] == chosen.dimensions == WIDTH
    assert chosen.model_id == f"letters/{WIDTH}@{address}"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (body(lambda told: told["data"].pop() and None), "1 vectors, or wrongly numbered ones, for 2 texts"),
        (body(lambda told: told["data"].append(told["data"][0])), "3 vectors"),
        (body(lambda told: told["data"][0].update(index=5)), "wrongly numbered"),
        (body(lambda told: told["data"][0].update(index=True)), "wrongly numbered"),
        (body(lambda told: [i.update(embedding=[1.0] * 5) for i in told["data"]] and None), "expected 8"),
        (body(lambda told: told["data"][0].update(embedding=[1.0] * 5)), "5, 8 numbers"),
        (body(lambda told: told["data"][0].update(embedding=[0.0] * WIDTH)), "zero"),
        (body(lambda told: told["data"][0].update(embedding=[1e300] * WIDTH)), "not finite"),
        (body(lambda told: told["data"][0].update(embedding=["a"] * WIDTH)), "neither a list of numbers"),
        (body(lambda told: told["data"][0].update(embedding="%%%")), "neither a list of numbers"),
        (body(lambda told: told["data"][0].update(embedding=None)), "neither a list of numbers"),
        (body(lambda told: told["data"][0].pop("embedding") and None), "neither a list of numbers"),
        (body(lambda told: {"data": "nothing"}), "not a list"),
        (raw('{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [NaN]}]}'), "gave no vectors"),
        (raw("<html>hello</html>"), "gave no vectors"),
        (raw("[]"), "gave no vectors"),
        (status(302, Location="/elsewhere"), "an answer that is none"),
        (status(401), "check search.endpoint.api_key"),
        (status(404), "check search.endpoint.url"),
    ],
)
async def test_an_answer_that_is_none_gives_no_vectors(
    endpoint: Endpoint, make: Make, answer: Answer, why: str
) -> None:
    embedder = await make(dimensions=WIDTH)
    endpoint.next = [answer]
    with pytest.raises(Unavailable, match=why):
        await embed(embedder, ["a", "b"])
    assert len(endpoint.asked) == 1
    assert (await embed(embedder, ["a", "b"])).shape == (2, WIDTH)


@pytest.mark.parametrize(
    "failures",
    [
        [status(500)],
        [status(503), status(429, **{"Retry-After": "0"})],
        [closed],
        [status(502), closed, status(500, **{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})],
    ],
)
async def test_what_may_pass_is_tried_again_within_the_time(
    endpoint: Endpoint, make: Make, failures: list[Answer]
) -> None:
    embedder = await make()
    endpoint.next = list(failures)
    assert (await embed(embedder, ["a"])).shape == (1, WIDTH)
    assert len(endpoint.asked) == len(failures) + 1


async def test_four_attempts_are_enough(endpoint: Endpoint, make: Make) -> None:
    embedder = await make()
    endpoint.next = [status(500, "broken")] * 4
    with pytest.raises(Unavailable, match="status 500, 'broken'"):
        await embed(embedder, ["a"])
    assert len(endpoint.asked) == 4


async def test_silence_ends_with_the_time(endpoint: Endpoint, make: Make) -> None:
    embedder = await make(timeout_s=0.2)
    endpoint.next = [silent]
    with pytest.raises(Unavailable, match="no answer in time"):
        await embed(embedder, ["a"])


async def test_a_query_has_less_time_than_documents(
    endpoint: Endpoint, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_http, "QUERY_TIMEOUT_S", 0.2)
    embedder = await make(timeout_s=300)
    endpoint.next = [silent]
    with pytest.raises(Unavailable, match="no answer in time"):
        await embed(embedder, ["a"], query=True)


async def test_a_wait_that_is_asked_for_and_does_not_fit_is_kept_to(endpoint: Endpoint, make: Make) -> None:
    embedder = await make()
    endpoint.next = [status(429, **{"Retry-After": "45"})]
    with pytest.raises(Unavailable, match="status 429"):
        await embed(embedder, ["a"])
    with pytest.raises(Unavailable, match=r"asked again in 4\d s"):
        await embed(embedder, ["a"])
    assert len(endpoint.asked) == 1


async def test_after_three_failures_nobody_asks_until_one_is_let_through(endpoint: Endpoint, make: Make) -> None:
    now = 1_000.0
    embedder = HttpEmbedder(EndpointSection(url=endpoint.url, model="letters"), clock=lambda: now)
    await embedder.open()
    try:
        endpoint.next = [status(401)] * 3
        for _ in range(3):
            with pytest.raises(Unavailable, match="status 401"):
                await embed(embedder, ["a"])
        with pytest.raises(Unavailable, match="failed repeatedly"):
            await embed(embedder, ["a"])
        assert len(endpoint.asked) == 3
        now += 2
        assert (await embed(embedder, ["a"])).shape == (1, WIDTH)
        assert (await embed(embedder, ["a"])).shape == (1, WIDTH)
    finally:
        await embedder.close()


async def test_texts_that_are_refused_say_nothing_of_the_endpoint(endpoint: Endpoint, make: Make) -> None:
    embedder = await make()
    endpoint.next = [status(400, "too long")] * 4
    for _ in range(4):
        with pytest.raises(ValueError, match="refuses status 400, 'too long'"):
            await embed(embedder, ["a"])
    assert (await embed(embedder, ["a"])).shape == (1, WIDTH)


async def test_an_answer_without_end_is_cut_off(
    endpoint: Endpoint, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65_536)

    monkeypatch.setattr(embedding_http, "WIDTH_MAX", 100)
    embedder = await make()
    endpoint.next = [endless]
    with pytest.raises(Unavailable, match="more than 68136 bytes"):
        await embed(embedder, ["a"])
    # Where the width is known, less is waited for.
    assert (await embed(embedder, ["a"])).shape == (1, WIDTH)
    endpoint.next = [endless]
    with pytest.raises(Unavailable, match=f"more than {2 * WIDTH * 26 + 65_536} bytes"):
        await embed(embedder, ["a"])


async def test_whoever_waits_is_told_when_the_node_stops(endpoint: Endpoint, make: Make) -> None:
    embedder = await make(timeout_s=300)
    arrived = asyncio.Event()

    async def hold(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        arrived.set()
        return await silent(request, asked)

    endpoint.next = [hold]
    waiting = asyncio.ensure_future(embed(embedder, ["a"]))
    async with asyncio.timeout(10):
        await arrived.wait()
        await embedder.close()
        with pytest.raises(Unavailable):
            await waiting
    with pytest.raises(Unavailable, match="starting or stopping"):
        await embed(embedder, ["a"])


async def test_search_goes_on_by_words_while_the_endpoint_is_away(endpoint: Endpoint, make: Make) -> None:
    embedder = await make()
    router = Router(embedder, None)
    router.apply([ToolEntry(ToolKey("n", "files", "read_file"), {"name": "read_file", "description": "Reads."})], ())
    await router.start()
    try:
        async with asyncio.timeout(30):
            await router.settled()
            assert (await router.search("read a file")).mode == "hybrid"
            endpoint.next = [status(401)]
            found = await router.search("read another file")
            assert found.mode == "lexical"
            assert found.hits[0].entry.key.tool == "read_file"
            assert (await router.search("read a third file")).mode == "hybrid"
    finally:
        await router.stop()


def test_the_numbers_of_an_answer_need_no_index() -> None:
    vectors = read_vectors(json.dumps({"data": [{"embedding": [3, 4]}, {"embedding": [0, 2]}]}).encode(), 2)
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1]])
    with pytest.raises(Invalid):
        read_vectors(json.dumps({"data": [{"embedding": [math.pi]}]}).encode(), 2)


async def test_a_node_asks_its_endpoint_and_stops_while_that_is_silent(endpoint: Endpoint, tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def hold(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        arrived.set()
        return await silent(request, asked)

    search = {"embedder": "http", "endpoint": {"url": endpoint.url, "model": "letters", "timeout_s": 300}}
    app = App(parse({"http": {"listen": "127.0.0.1:0"}, "search": search}, tmp_path))
    async with asyncio.timeout(60):
        await app.start()
        try:
            await app.router.settled()
            assert app.router.status().embedder == f"letters@{endpoint.url.removeprefix('http://')}"
            endpoint.next = [hold]
            key = ToolKey("local", "files", "read_file")
            app.router.apply([ToolEntry(key, {"name": "read_file", "description": "Reads."})], ())
            await arrived.wait()
        finally:
            await app.stop()
