"""What OAuth clients are told of a node, and what they are not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from node.ingress.well_known import PATH, WellKnown
from node.settings.auth import AuthSection

US = "https://mesh.example"
ISSUERS = {
    "issuers": [
        {"issuer": "https://a.example", "required_scopes": ["mcp", "extra"]},
        {"issuer": "https://b.example/tenant", "required_scopes": ["mcp"]},
    ],
    "scopes": ["operator"],
}


@asynccontextmanager
async def announced(auth) -> AsyncIterator[aiohttp.ClientSession]:
    well_known = WellKnown(AuthSection.model_validate(auth), lambda: US)

    async def answer(request: web.Request) -> web.Response:
        status = int(request.query.get("status", 401))
        challenge = request.query.get("challenge", "Bearer")
        return web.Response(status=status, headers={"WWW-Authenticate": challenge} if challenge else {})

    app = web.Application()
    app.add_routes(well_known.routes())
    app.router.add_route("*", "/{tail:.*}", answer)
    app.on_response_prepare.append(well_known.complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
        yield http
    await runner.cleanup()


@pytest.mark.parametrize(
    "path",
    ["", "/mcp", "/mcp-all", "/v1/mcp", "/mcp/time", "/v1/mcp/nowhere", "/sse/x", "/ws", "/api/v1/status", "/metrics"],
)
async def test_each_address_has_its_document_whether_or_not_a_server_stands_there(path):
    async with announced(ISSUERS) as http, http.get(PATH + path) as r:
        assert (r.status, r.content_type) == (200, "application/json")
        assert await r.json() == {
            "resource": US + path,
            "authorization_servers": ["https://a.example", "https://b.example/tenant"],
            "bearer_methods_supported": ["header"],
            "resource_name": "toolmesh",
            "scopes_supported": ["mcp", "extra", "operator"],
        }


@pytest.mark.parametrize("path", ["/elsewhere", "/mcp/a/b", "/mcp/a%22b%0d", "/mcp/" + "x" * 200, "//evil.example"])
async def test_what_is_no_address_of_a_node_has_none(path):
    async with announced(ISSUERS) as http, http.get(PATH + path) as r:
        assert r.status in (401, 404) or (path == "/mcp/a%22b%0d" and '"' not in (await r.json())["resource"])


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ("Bearer", f'Bearer scope="mcp extra", resource_metadata="{US}{PATH}/mcp/time"'),
        (
            'Bearer error="invalid_token"',
            f'Bearer error="invalid_token", scope="mcp extra", resource_metadata="{US}{PATH}/mcp/time"',
        ),
        ('Bearer resource_metadata="https://other"', 'Bearer resource_metadata="https://other"'),
        ("Basic", "Basic"),
    ],
)
async def test_a_challenge_names_the_document_of_the_address_and_what_to_ask_for(challenge, expected):
    async with announced(ISSUERS) as http, http.get("/mcp/time", params={"challenge": challenge}) as r:
        assert r.headers["WWW-Authenticate"] == expected


async def test_missing_scopes_are_not_mixed_with_those_that_everybody_needs():
    challenge = 'Bearer error="insufficient_scope", scope="files:write"'
    async with announced(ISSUERS) as http, http.get("/mcp", params={"challenge": challenge, "status": "403"}) as r:
        assert r.headers["WWW-Authenticate"] == f'{challenge}, resource_metadata="{US}{PATH}/mcp"'


async def test_an_address_that_is_none_is_not_repeated():
    async with announced(ISSUERS) as http, http.get('/nowhere/"x') as r:
        assert r.headers["WWW-Authenticate"] == f'Bearer scope="mcp extra", resource_metadata="{US}{PATH}"'


async def test_without_issuers_nothing_of_oauth_is_said():
    async with announced({}) as http:
        async with http.get(PATH) as r:
            assert r.status == 401
            assert r.headers["WWW-Authenticate"] == "Bearer"
        async with http.get("/x", params={"challenge": ""}) as r:
            assert "WWW-Authenticate" not in r.headers
