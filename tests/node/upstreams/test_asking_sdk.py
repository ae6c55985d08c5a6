"""Servers on the SDK, over pipes and HTTP, that ask and tell as the SDK does it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from node.upstreams.spec import UpstreamSpec
from proto.records import Principal
from tests.node.upstreams.conftest import SERVERS, Client
from tests.node.upstreams.test_listening import begin, to, updates

CAN = {"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}
SERVER = (sys.executable, str(SERVERS / "sdk_asking.py"))
MODERN = {"era": "2026-07-28"}


@pytest.fixture(scope="module")
def url():
    process = subprocess.Popen([*SERVER, "http"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(params=["stdio", "http"])
def spec(request):
    if request.param == "stdio":
        return UpstreamSpec("asking", command=SERVER)
    return UpstreamSpec("asking", url=request.getfixturevalue("url"))


def person(name):
    return Client(
        elicitation_create={"action": "accept", "content": {"word": name}},
        sampling_createMessage={
            "role": "assistant",
            "content": {"type": "text", "text": name},
            "model": "m",
        },
        roots_list={"roots": [{"uri": f"file:///{name}"}]},
    )


def text(answer):
    return answer["result"]["content"][0]["text"]


async def test_it_asks_for_words_completions_and_roots_and_each_answer_is_that_clients(watch, spec):
    w = await watch(spec)
    await w.until_up()
    names = ("ann", "bea", "cleo")
    clients = [person(name) for name in names]
    for tool, says in (("elicit", "accept:{}"), ("sample", "{}"), ("roots", "['file:///{}']")):
        answers = await asyncio.gather(
            *(
                w.tool(tool, exchange=client, client_capabilities=CAN, session_key=name)
                for name, client in zip(names, clients, strict=True)
            )
        )
        assert [text(a) for a in answers] == [says.format(name) for name in names]
    assert [len(c.asked) for c in clients] == [3, 3, 3]


async def test_a_client_without_capabilities_is_not_asked(watch, spec):
    w = await watch(spec)
    await w.until_up()
    client = person("ann")
    answer = await w.tool("sample", exchange=client)
    assert "error" in answer or answer["result"]["isError"]
    assert client.asked == []


async def test_logs_reach_the_call_that_they_are_about(watch, spec):
    w = await watch(spec)
    await w.until_up()
    client = Client()
    await w.tool("log", exchange=client, params={"_meta": {"io.modelcontextprotocol/logLevel": "debug"}})
    assert [n["params"]["data"] for n in client.heard] == ["working"]


@pytest.mark.parametrize("era", [{}, MODERN], ids=["legacy", "modern"])
async def test_a_changed_resource_is_told_to_who_listens_in_either_era(watch, spec, era):
    w = await watch(spec)
    await w.until_up()
    await w.upstream.learn()
    await w.upstream.learn_legacy()
    assert (w.upstream.legacy, w.upstream.modern) == (True, True)
    client, other = Client(), Client()
    tasks = [
        await begin(w, to("sdk://one"), client, session_key="a", **era),
        await begin(w, to("sdk://two"), other, session_key="b", principal=Principal("bob"), **era),
    ]
    assert client.heard[0]["params"]["notifications"] == {"resourceSubscriptions": ["sdk://one"]}
    async with asyncio.timeout(20):
        while not updates(client):
            # Over HTTP the stream that brings it may open after the subscription was made.
            await w.tool("touch", {"uri": "sdk://one"}, session_key="a", **era)
    assert all("_meta" not in n["params"] for n in client.heard)
    assert updates(other) == []
    for task in tasks:
        task.cancel()


async def test_a_modern_listen_that_its_client_gives_up_ends_at_the_server(watch, spec):
    w = await watch(spec)
    await w.until_up()
    await w.upstream.learn()
    for _ in range(3):
        client = Client()
        task = await begin(w, to("sdk://one"), client, **MODERN)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert w.upstream._listening.open == 0
    assert text(await w.tool("touch", {"uri": "sdk://one"}, **MODERN)) == "touched"
    assert updates(client) == []
