from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from node.doors.door import DoorSettings
from node.doors.listener import Listener
from node.guard.keys import ApiKey
from node.guard.open import OpenAuthenticator
from node.operator.api import operator_routes
from node.ports import Authenticator
from proto.errors import Unavailable
from proto.records import Principal
from router.arguments import Search
from tests.node.keyed import keyed


class MemoryOperator:
    """A node of two servers, of which callers with a tenant see one."""

    def __init__(self) -> None:
        self.reason = ""
        self.broken = False
        self.asked: list[tuple[Any, ...]] = []

    def ready(self) -> str:
        return self.reason

    def status(self) -> Any:
        if self.broken:
            raise KeyError("/secret/path")
        return {"node": {"name": "eu-1"}}

    def calls(self, most: int) -> list[dict[str, Any]]:
        return [{"n": n} for n in range(most)]

    async def search(self, asked: Search, k: int, principal: Principal, *, explain: bool = False) -> Any:
        self.asked.append((asked.task, k, principal.subject))
        self.searched = asked, explain
        if asked.task == "down":
            raise Unavailable("the index is being built", retry_after_s=1)
        return {"query": asked.task, "hits": []}

    def software(self) -> str:
        return "toolmesh/1"

    def peers(self) -> list[dict[str, Any]]:
        return [{"name": "us-1"}]

    def peer(self, name: str) -> dict[str, Any]:
        return {"name": name}

    def explain(self, server: str, tool: str, principal: str, asker: Principal) -> dict[str, Any]:
        self.asked.append((server, tool, principal, asker.subject))
        return {"verdict": "visible"}

    async def metrics(self) -> tuple[bytes, str]:
        return b"toolmesh_tools 3\n", "text/plain; version=0.0.4; charset=utf-8"

    async def drain(self, on: bool, wait_s: float) -> dict[str, Any]:
        self.asked.append((on, wait_s))
        return {"draining": on}

    async def leave(self, wait_s: float, cut: bool) -> dict[str, Any]:
        self.asked.append((wait_s, cut))
        return {"left": True}

    def servers(self, principal: Principal) -> list[Any]:
        return [{"name": "time"}] if principal.tenant else [{"name": "time"}, {"name": "git"}]


@pytest.fixture
def operator() -> MemoryOperator:
    return MemoryOperator()


@pytest.fixture
def keys() -> Authenticator:
    def key(name: str, **more: Any) -> ApiKey:
        return ApiKey(name, hashlib.sha256(f"key-of-{name}".encode()).digest(), **more)

    return keyed([key("op", scopes=("operator",)), key("agent", tenant="acme")], "test.mesh")


class Served:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers=headers) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def serve(operator: MemoryOperator) -> AsyncIterator[Any]:
    listeners: list[Listener] = []
    async with aiohttp.ClientSession() as session:

        async def start(authenticator: Authenticator) -> Served:
            app = web.Application()
            app.add_routes(operator_routes(operator, authenticator, hits=7))
            listener = Listener(app, DoorSettings(), "127.0.0.1", 0)
            listeners.append(listener)
            await listener.start()
            return Served(session, f"http://127.0.0.1:{listener.port}")

        yield start
    for listener in listeners:
        await listener.stop()


async def test_health_and_readiness_need_no_key(serve: Any, operator: MemoryOperator, keys: Authenticator) -> None:
    node = await serve(keys)
    assert await node.get("/healthz") == (200, {"status": "ok"})
    assert await node.get("/readyz") == (200, {"status": "ready"})
    operator.reason = "draining"
    assert await node.get("/readyz") == (503, {"status": "not ready", "reason": "draining"})
    assert (await node.get("/healthz"))[0] == 200


FOR_OPERATORS = [
    "/api/v1/status", "/api/v1/calls", "/api/v1/peers", "/api/v1/peers/us-1", "/api/v1/explain?tool=x", "/metrics",
]  # fmt: skip


@pytest.mark.parametrize("path", [*FOR_OPERATORS, "/api/v1/servers", "/api/v1/search?q=x"])
async def test_everything_else_needs_a_key_where_there_are_keys(serve: Any, keys: Authenticator, path: str) -> None:
    node = await serve(keys)
    status, body = await node.get(path)
    assert (status, body["kind"]) == (401, "unauthenticated")
    for headers in ({"Authorization": "Bearer key-of-op"}, {"X-API-Key": "key-of-op"}):
        async with node.session.get(node.url + path, headers=headers) as response:
            assert response.status == 200
    assert (await node.get(path, Authorization="Bearer wrong"))[0] == 401


@pytest.mark.parametrize("path", FOR_OPERATORS)
async def test_what_shows_everything_needs_the_operators_scope(serve: Any, keys: Authenticator, path: str) -> None:
    node = await serve(keys)
    status, body = await node.get(path, Authorization="bearer key-of-agent")
    assert (status, body["kind"], body["data"]) == (403, "scope_required", {"scopes": ["operator"]})


async def test_lists_are_those_of_the_caller(serve: Any, keys: Authenticator) -> None:
    node = await serve(keys)
    _, body = await node.get("/api/v1/servers", Authorization="Bearer key-of-agent")
    assert body == {"servers": [{"name": "time"}]}


async def test_a_search_passes_query_count_and_caller_on(serve: Any, operator: MemoryOperator) -> None:
    node = await serve(OpenAuthenticator())
    assert (await node.get("/api/v1/search?q=%20what+time&k=3"))[0] == 200
    assert (await node.get("/api/v1/search?q=time"))[0] == 200
    assert operator.asked == [("what time", 3, "anonymous"), ("time", 7, "anonymous")]


async def test_a_search_is_narrowed_and_explained_as_it_is_asked(serve: Any, operator: MemoryOperator) -> None:
    node = await serve(OpenAuthenticator())
    await node.get("/api/v1/search?q=time&server=clock&region=eu&kind=prompt&explain=1")
    assert operator.searched == (Search("time", server="clock", region="eu", kind="prompt"), True)
    await node.get("/api/v1/search?q=time&explain=0&kind=&server=")
    assert operator.searched == (Search("time"), False)


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("q=x&kind=agent", "'kind' is 'agent'; give one of tool, prompt, resource"),
        ("q=x&server=" + "x" * 600, "'server'"),
        ("", "'q'"),
        ("q=%20", "'q'"),
        ("q=" + "x" * 2_001, "'q'"),
        *((f"q=x&k={k}", "'k'") for k in ("0", "51", "-1", "1.5", "abc", "", "9" * 5_000, "٣")),
    ],
)
async def test_a_bad_parameter_is_named(serve: Any, query: str, word: str) -> None:
    node = await serve(OpenAuthenticator())
    status, body = await node.get(f"/api/v1/search?{query}")
    assert (status, body["kind"]) == (400, "invalid")
    assert word in body["detail"]


async def test_errors_of_the_node_become_problem_details(serve: Any, operator: MemoryOperator) -> None:
    node = await serve(OpenAuthenticator())
    status, body = await node.get("/api/v1/search?q=down")
    assert (status, body["kind"], body["detail"]) == (503, "unavailable", "the index is being built")
    status, body = await node.get("/api/v2/nothing")
    assert (status, body["kind"]) == (404, "unknown")


async def test_a_bug_shows_an_id_that_the_log_explains(
    serve: Any, operator: MemoryOperator, caplog: pytest.LogCaptureFixture
) -> None:
    node = await serve(OpenAuthenticator())
    operator.broken = True
    status, body = await node.get("/api/v1/status")
    assert (status, body["kind"]) == (500, "fault")
    assert "secret" not in str(body)
    assert body["data"]["fault_id"] in caplog.text
    assert "/secret/path" in caplog.text


@pytest.mark.parametrize("path", [*FOR_OPERATORS, "/api/v1/servers", "/api/v1/search?q=x"])
async def test_all_but_draining_and_leaving_is_read_only(serve: Any, path: str) -> None:
    node = await serve(OpenAuthenticator())
    async with node.session.post(node.url + path, json={}) as response:
        assert response.status in (404, 405)


async def test_an_explanation_is_asked_for_by_name_and_for_whom(serve: Any, operator: MemoryOperator) -> None:
    node = await serve(OpenAuthenticator())
    assert await node.get("/api/v1/explain?tool=ledger/post&as=alice") == (200, {"verdict": "visible"})
    await node.get("/api/v1/explain?server=ledger&tool=post")
    assert operator.asked == [("", "ledger/post", "alice", "anonymous"), ("ledger", "post", "", "anonymous")]
    for query, word in (("", "'tool'"), ("as=alice", "'tool'"), ("tool=" + "x" * 513, "'tool'")):
        status, body = await node.get(f"/api/v1/explain?{query}")
        assert (status, body["kind"]) == (400, "invalid")
        assert word in body["detail"]


async def test_metrics_are_plain_text_for_prometheus(serve: Any) -> None:
    node = await serve(OpenAuthenticator())
    async with node.session.get(node.url + "/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await response.text() == "toolmesh_tools 3\n"


async def test_draining_is_turned_on_and_off(serve: Any, operator: MemoryOperator, keys: Authenticator) -> None:
    node = await serve(keys)
    url = node.url + "/api/v1/drain"
    headers = {"Authorization": "Bearer key-of-op"}
    for body, asked in (({}, (True, 0.0)), ({"on": True, "wait_s": 2.5}, (True, 2.5)), ({"on": False}, (False, 0.0))):
        async with node.session.post(url, json=body, headers=headers) as response:
            assert await response.json() == {"draining": asked[0]}
        assert operator.asked.pop() == asked
    async with node.session.post(url, json={}, headers={"Authorization": "Bearer key-of-agent"}) as response:
        assert response.status == 403
    assert (await node.get("/api/v1/drain", **headers))[0] in (404, 405)
    assert operator.asked == []


async def test_a_node_is_told_to_leave(serve: Any, operator: MemoryOperator, keys: Authenticator) -> None:
    node = await serve(keys)
    url = node.url + "/api/v1/leave"
    headers = {"Authorization": "Bearer key-of-op"}
    for body, asked in (({}, (0.0, False)), ({"wait_s": 2.5, "cut": True}, (2.5, True))):
        async with node.session.post(url, json=body, headers=headers) as response:
            assert await response.json() == {"left": True}
        assert operator.asked.pop() == asked
    async with node.session.post(url, json={}, headers={"Authorization": "Bearer key-of-agent"}) as response:
        assert response.status == 403
    assert (await node.get("/api/v1/leave", **headers))[0] in (404, 405)
    assert operator.asked == []


@pytest.mark.parametrize(
    ("verb", "body", "word"),
    [
        *(
            (verb, body, word)
            for verb in ("drain", "leave")
            for body, word in [
                ("[]", "object"),
                ("{", "JSON"),
                ('{"wait_s": -1}', "'wait_s'"),
                ('{"wait_s": 3601}', "'wait_s'"),
                ('{"wait_s": true}', "'wait_s'"),
                ('{"wait_s": "1"}', "'wait_s'"),
            ]
        ),
        ("drain", '{"on": 1}', "'on'"),
        ("leave", '{"cut": "yes"}', "'cut'"),
    ],
)
async def test_a_bad_order_is_refused_by_field(
    serve: Any, operator: MemoryOperator, verb: str, body: str, word: str
) -> None:
    node = await serve(OpenAuthenticator())
    headers = {"Content-Type": "application/json"}
    async with node.session.post(f"{node.url}/api/v1/{verb}", data=body, headers=headers) as response:
        assert response.status == 400
        assert word in (await response.json(content_type=None))["detail"]
    assert operator.asked == []


@pytest.mark.parametrize("verb", ["drain", "leave"])
async def test_a_page_of_another_origin_cannot_drain_the_node_nor_make_it_leave(
    serve: Any, operator: MemoryOperator, verb: str
) -> None:
    """What a page may send without asking first is a form or plain text; JSON makes the browser ask."""
    node = await serve(OpenAuthenticator())
    url = f"{node.url}/api/v1/{verb}"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        async with node.session.post(url, data=b"{}", headers={"Content-Type": kind}) as response:
            assert response.status == 400
    async with node.session.options(url, headers={"Origin": "https://evil.example.org"}) as response:
        assert response.status >= 400
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert operator.asked == []
