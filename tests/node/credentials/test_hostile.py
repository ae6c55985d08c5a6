"""Authorization servers and servers that lie, redirect, or answer nonsense: no secret and no token leaves for them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from aiohttp import web

from proto.errors import Unavailable
from proto.records import Principal
from tests.node.credentials.conftest import World, whoami
from tests.node.credentials.world import SECRET, Issuer, serve

ALICE = Principal("alice", "idp", kind="user")


def jwt_for(audience: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part({'aud': audience, 'sub': 'x'})}.sig"


async def cause(world: World, auth: dict[str, Any], **more: Any) -> str:
    upstream = await world.connect(auth, wait="down", **more)
    assert SECRET not in upstream.health.cause
    return upstream.health.cause


@pytest.mark.parametrize(
    ("resource", "problem"),
    [
        (
            {"resource": "https://elsewhere.example/mcp"},
            "its resource metadata is about 'https://elsewhere.example/mcp'",
        ),
        ({"resource": "{url}/mcp/deeper"}, "is about"),
        ({"resource": "{url}/mc"}, "is about"),
        ({"resource": 7}, "is about nothing"),
        ({"authorization_servers": []}, "names no authorization server"),
        ({"authorization_servers": ["http://idp.example"]}, "names no authorization server at an https:// address"),
        ({"authorization_servers": ["https://user:pw@idp.example"]}, "names no authorization server"),
        ({"authorization_servers": ["javascript:alert(1)"]}, "names no authorization server"),
        ({"authorization_servers": ["https://10.0.0.1"]}, "10.0.0.1"),
        ({"authorization_servers": ["https://[::ffff:169.254.169.254]"]}, "outbound.allow"),
    ],
)
async def test_a_server_that_points_elsewhere_gets_no_token(
    world: World, resource: dict[str, Any], problem: str
) -> None:
    world.server.resource = json.loads(json.dumps(resource).replace("{url}", world.server.url))
    said = await cause(world, world.keyed())
    assert problem in said
    assert "'strict'" in said
    assert world.issuer.forms == []


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"issuer": "https://honest.example"}, "names the issuer 'https://honest.example', not"),
        ({"issuer": "{url}/"}, "names the issuer"),
        (
            {"token_endpoint": "http://idp.example/token"},
            "its token_endpoint 'http://idp.example/token' is not an https",
        ),
        ({"token_endpoint": "https://169.254.169.254/token"}, "169.254.169.254"),
        ({"token_endpoint": None}, "names no token endpoint"),
        ({"token_endpoint_auth_methods_supported": ["tls_client_auth"]}, "takes tls_client_auth, not"),
    ],
)
async def test_an_issuer_that_is_not_who_it_should_be_gets_no_secret(
    world: World, metadata: dict[str, Any], problem: str
) -> None:
    world.issuer.metadata = json.loads(json.dumps(metadata).replace("{url}", world.issuer.url))
    said = await cause(world, world.auth())
    assert problem in said
    assert world.issuer.forms == []


async def test_a_server_that_names_an_authorization_server_of_its_own_is_not_sent_the_secret(world: World) -> None:
    thief = Issuer()
    runner, thief.url = await serve(thief.app())
    try:
        world.server.resource = {"authorization_servers": [thief.url]}
        said = await cause(world, world.auth())
        assert f"it takes tokens of {thief.url}, not of the configured issuer {world.issuer.url!r}" in said
        assert thief.forms == []
    finally:
        await runner.cleanup()


async def test_the_configured_issuer_is_the_only_one_that_is_asked(world: World) -> None:
    said = await cause(world, world.auth(issuer="https://mine.example"))
    assert "not of the configured issuer 'https://mine.example'" in said
    assert world.issuer.forms == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"access_token": "a\r\nX: y", "token_type": "Bearer"}, "without an access token that a header could bear"),
        ({"access_token": "", "token_type": "Bearer"}, "without an access token"),
        ({"access_token": "x" * 20_000, "token_type": "Bearer"}, "without an access token"),
        ({"access_token": ["x"], "token_type": "Bearer"}, "without an access token"),
        ({"access_token": "x", "token_type": "DPoP"}, "a token of type 'DPoP'"),
        ([1, 2], "without an access token"),
    ],
)
async def test_what_is_no_token_is_not_used(world: World, answer: Any, problem: str) -> None:
    world.issuer.override = lambda path, _: web.json_response(answer) if path == "/token" else None
    assert problem in await cause(world, world.auth())
    assert not any("Authorization" in seen for seen in world.server.seen)


async def test_an_answer_without_end_is_cut(world: World) -> None:
    world.issuer.override = lambda path, _: web.Response(body=b"[" * 400_000) if path == "/token" else None
    assert "longer than 262144 bytes" in await cause(world, world.auth())


async def test_a_refusal_is_told_without_the_secret_that_it_repeats(world: World) -> None:
    def refuse(path: str, _form: dict[str, str]) -> web.Response | None:
        said = {"error": "invalid_client", "error_description": f"{SECRET} is not the secret"}
        return web.json_response(said, status=401) if path == "/token" else None

    world.issuer.override = refuse
    said = await cause(world, world.auth())
    assert said.endswith("refused a token: invalid_client")


async def test_the_secret_does_not_follow_a_redirect(world: World) -> None:
    caught: list[dict[str, str]] = []

    async def catch(request: web.Request) -> web.Response:
        caught.append(dict(request.headers))
        return web.json_response({"access_token": "stolen", "token_type": "Bearer"})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", catch)
    thief, url = await serve(app)
    try:
        world.issuer.override = lambda path, _: (
            web.Response(status=307, headers={"Location": f"{url}/token"}) if path == "/token" else None
        )
        assert "refused a token: status 307" in await cause(world, world.auth())
        assert caught == []
    finally:
        await thief.cleanup()


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/ws"])
async def test_a_token_does_not_follow_the_servers_redirect(world: World, path: str) -> None:
    caught: list[dict[str, str]] = []

    async def catch(request: web.Request) -> web.Response:
        caught.append(dict(request.headers))
        return web.Response(status=404)

    async def bounce(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{thief_url}{path}"})

    catcher = web.Application()
    catcher.router.add_route("*", "/{rest:.*}", catch)
    thief, thief_url = await serve(catcher)
    bouncer = web.Application()
    bouncer.router.add_route("*", "/{rest:.*}", bounce)
    runner, url = await serve(bouncer)
    world.server.url = url
    try:
        auth = world.auth(token_url=f"{world.issuer.url}/token", scopes=["read"])
        transport = {"/sse": "sse"}.get(path, "auto")
        assert "redirects to" in await cause(world, auth, path=path, transport=transport)
        assert len(world.issuer.forms) >= 1
        assert caught == []
    finally:
        await runner.cleanup()
        await thief.cleanup()


async def test_a_token_for_somebody_else_is_not_given_away(world: World) -> None:
    upstream = await world.connect(world.exchange())
    given = jwt_for(["https://payroll.example"])
    world.issuer.override = lambda path, _: (
        web.json_response({"access_token": given, "token_type": "Bearer"}) if path == "/token" else None
    )
    with pytest.raises(Unavailable, match=r"is for https://payroll\.example, not for") as e:
        await whoami(upstream, ALICE)
    assert given not in str(e.value)
    assert given not in json.dumps(world.server.seen)


@pytest.mark.parametrize("named", ["resource", "audience"])
async def test_a_token_for_the_server_is_used(world: World, named: str) -> None:
    auth = world.exchange(audience="strict-api")
    upstream = await world.connect(auth)
    given = jwt_for("strict-api" if named == "audience" else f"{world.server.url}/mcp")
    world.issuer.override = lambda path, _: (
        web.json_response({"access_token": given, "token_type": "Bearer"}) if path == "/token" else None
    )
    with pytest.raises(Unavailable):
        # The server, which did not issue it, refuses it: it was sent.
        await whoami(upstream, ALICE)
    assert given in json.dumps(world.server.seen)


async def test_a_subject_token_that_comes_back_is_not_sent_on(world: World) -> None:
    world.callers.keep(ALICE, "alices-own-token")
    upstream = await world.connect(world.exchange(subject="token"))
    world.issuer.override = lambda path, form: (
        web.json_response({"access_token": form["subject_token"], "token_type": "Bearer"})
        if "subject_token" in form
        else None
    )
    with pytest.raises(Unavailable, match="gave back the very token"):
        await whoami(upstream, ALICE)
    assert "alices-own-token" not in json.dumps(world.server.seen)


async def test_an_authorization_server_that_is_away_is_asked_seldom_and_named(world: World) -> None:
    upstream = await world.connect(world.exchange())
    world.issuer.forms.clear()
    world.issuer.override = lambda path, _: web.Response(status=503) if path == "/token" else None
    for _ in range(20):
        with pytest.raises(Unavailable, match=r"server 'strict': http://127\.0\.0\.1:\d+ answered .* status 503"):
            await whoami(upstream, ALICE)
    assert len(world.issuer.forms) == 1


async def test_callers_wait_for_one_token_and_one_who_leaves_stops_nobody(world: World) -> None:
    upstream = await world.connect(world.exchange())
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await go_on.wait()

    world.issuer.before = hold
    before = len(world.issuer.forms)
    first = asyncio.create_task(whoami(upstream, ALICE))
    others = [asyncio.create_task(whoami(upstream, ALICE)) for _ in range(5)]
    await asked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert len(set(await asyncio.gather(*others))) == 1
    assert len(world.issuer.forms) == before + 1
