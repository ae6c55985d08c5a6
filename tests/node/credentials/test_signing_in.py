"""Signing in to a real server with tokens of a real authorization server: client credentials and token exchange."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import pytest

from node.credentials.bearer import BearerCredentials
from proto.errors import Unavailable
from proto.records import ANONYMOUS, Principal
from tests.node.credentials.conftest import ME, PATIENCE_S, World, whoami
from tests.node.credentials.world import CLIENT, EXCHANGE, SECRET

ALICE = Principal("alice", "idp", kind="user", credential="jti/1")
BOB = Principal("bob", "idp", kind="user", credential="jti/2")


def said_of(principal: Principal) -> str:
    return json.dumps([principal.issuer, principal.tenant, principal.subject])


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/ws"])
async def test_a_node_finds_the_authorization_server_and_signs_in_as_itself(world: World, path: str) -> None:
    transport = {"/sse": "sse"}.get(path, "auto")
    upstream = await world.connect(world.auth(), path, transport=transport)
    said = await asyncio.gather(*(whoami(upstream, p) for p in (ALICE, BOB, ANONYMOUS) for _ in range(5)))
    assert set(said) == {CLIENT}
    (form,) = world.issuer.forms
    assert form == {"grant_type": "client_credentials", "scope": "read", "resource": f"{world.server.url}{path}"}


async def test_a_token_url_that_is_configured_spares_the_search(world: World) -> None:
    upstream = await world.connect(world.auth(token_url=f"{world.issuer.url}/token", scopes=["read"]))
    assert await whoami(upstream, ALICE) == CLIENT
    assert all(seen["Authorization"].startswith("Bearer ") for seen in world.server.seen)


@pytest.mark.parametrize("kind", ["client_credentials", "token_exchange"])
async def test_no_call_goes_without_a_token_even_where_lists_may_be_had_so(world: World, kind: str) -> None:
    world.server.lists_openly = True
    upstream = await world.connect(world.auth() if kind == "client_credentials" else world.exchange())
    assert world.issuer.forms == []
    assert await whoami(upstream, ALICE) in (CLIENT, said_of(ALICE))
    calls = [seen for seen, body in zip(world.server.seen, world.server.bodies, strict=True) if "tools/call" in body]
    assert [seen["Authorization"].startswith("Bearer ") for seen in calls] == [True]


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_a_token_that_is_refused_is_replaced_once_for_all_who_wait(world: World, path: str) -> None:
    upstream = await world.connect(world.auth(), path, transport={"/sse": "sse"}.get(path, "auto"))
    world.issuer.revoke_all()
    assert set(await asyncio.gather(*(whoami(upstream, ALICE) for _ in range(20)))) == {CLIENT}
    assert len(world.issuer.forms) == 2


async def test_a_token_is_replaced_before_it_ends(world: World) -> None:
    world.issuer.life_s = 1.0
    upstream = await world.connect(world.auth())
    refused = len([s for s in world.server.seen if "Authorization" in s])
    async with asyncio.timeout(10):
        while len(world.issuer.forms) < 3:
            assert await whoami(upstream, ALICE) == CLIENT
    assert refused
    assert not world.server.strangers


async def test_a_server_that_refuses_every_token_costs_few_of_them(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream = await world.connect(world.auth())
    world.issuer.life_s = -1.0
    world.issuer.revoke_all()
    world.issuer.forms.clear()
    for _ in range(10):
        with pytest.raises(Unavailable, match=r"server 'strict' refused with status 401: .*'auth'") as e:
            await whoami(upstream, ALICE)
        assert SECRET not in str(e.value)
    assert len(world.issuer.forms) <= 2
    for secret in (SECRET, *world.issuer.tokens):
        assert secret not in caplog.text
        assert secret not in repr(upstream) + repr(upstream.spec) + repr(upstream.spec.credentials)


async def test_a_scope_that_is_demanded_is_asked_for_beside_those_there_were(world: World) -> None:
    upstream = await world.connect(world.auth())
    world.server.needs = frozenset({"write"})
    assert set(await asyncio.gather(*(whoami(upstream, ALICE) for _ in range(5)))) == {CLIENT}
    assert [form["scope"] for form in world.issuer.forms] == ["read", "read write"]


async def test_a_scope_that_is_never_granted_is_asked_for_once_and_named(world: World) -> None:
    upstream = await world.connect(world.auth())
    world.server.needs = frozenset({"root"})
    for _ in range(4):
        with pytest.raises(Unavailable, match=r"server 'strict' wants a token with the scopes root"):
            await whoami(upstream, ALICE)
    assert [form["scope"] for form in world.issuer.forms] == ["read", "read root"]


async def test_configured_scopes_are_never_exceeded(world: World) -> None:
    upstream = await world.connect(world.auth(scopes=["read"]))
    world.server.needs = frozenset({"admin"})
    with pytest.raises(Unavailable, match=r"scopes admin.*add them to 'scopes' of its 'auth'"):
        await whoami(upstream, ALICE)
    assert [form["scope"] for form in world.issuer.forms] == ["read"]


async def test_each_caller_gets_a_token_of_its_own_for_the_nodes_word(world: World) -> None:
    upstream = await world.connect(world.exchange())
    for principal in (ALICE, BOB, ALICE):
        assert await whoami(upstream, principal) == said_of(principal)
    listing, alice, bob = world.issuer.forms
    assert {form["grant_type"] for form in world.issuer.forms} == {EXCHANGE}
    assert {form["resource"] for form in (listing, alice, bob)} == {f"{world.server.url}/mcp"}
    assert ME.uri in set(world.server.sessions.values()).pop() or any(
        ME.uri in subject for subject in world.server.sessions.values()
    )
    assert not world.server.strangers


async def test_a_caller_without_a_name_is_refused_where_callers_are_told_apart(world: World) -> None:
    upstream = await world.connect(world.exchange())
    with pytest.raises(Unavailable, match="wants to know who calls"):
        await whoami(upstream, ANONYMOUS)


async def test_the_callers_own_token_is_exchanged_and_never_sent_to_the_server(world: World) -> None:
    world.callers.keep(ALICE, "alices-own-token")
    upstream = await world.connect(world.exchange(subject="token"))
    assert await whoami(upstream, ALICE) == "alices-own-token"
    assert [form["grant_type"] for form in world.issuer.forms] == ["client_credentials", EXCHANGE]
    sent = json.dumps(world.server.seen) + "".join(world.server.bodies)
    assert "alices-own-token" not in sent


async def test_the_callers_own_token_serves_only_where_the_caller_came_in(world: World) -> None:
    world.callers.keep(ALICE, "alices-own-token")
    upstream = await world.connect(world.exchange(subject="token"))
    with pytest.raises(Unavailable, match="never leaves the node where that came in"):
        await whoami(upstream, ALICE, via=("elsewhere",))
    with pytest.raises(Unavailable, match="you came without one, or it has ended"):
        await whoami(upstream, BOB)
    assert "alices-own-token" not in json.dumps(world.issuer.forms)


async def test_what_was_got_for_one_of_a_persons_tokens_is_none_of_another(world: World) -> None:
    reader = Principal("alice", "idp", kind="user", scopes=("read",))
    writer = Principal("alice", "idp", kind="user", scopes=("read", "write"))
    world.callers.keep(writer, "writers-token")
    upstream = await world.connect(world.exchange(subject="token"))
    assert await whoami(upstream, writer) == "writers-token"
    with pytest.raises(Unavailable, match="you came without one"):
        await whoami(upstream, reader)
    world.callers.keep(reader, "readers-token")
    assert await whoami(upstream, reader) == "readers-token"
    assert not world.server.strangers


async def test_a_principal_that_is_forgotten_loses_its_token_and_its_session(world: World) -> None:
    upstream = await world.connect(world.exchange())
    assert await whoami(upstream, ALICE) == said_of(ALICE)
    await whoami(upstream, BOB)
    before = len(world.issuer.forms)
    credentials = upstream.spec.credentials
    credentials.forget(ALICE)  # type: ignore[union-attr]
    assert await whoami(upstream, BOB) == said_of(BOB)
    assert len(world.issuer.forms) == before
    assert await whoami(upstream, ALICE) == said_of(ALICE)
    assert len(world.issuer.forms) == before + 1
    assert sorted(world.server.sessions.values()).count(said_of(ALICE)) == 2


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_nobody_ever_gets_the_token_or_the_session_of_another(world: World, era: str) -> None:
    """Equal subjects of two issuers and tenants, with tokens that end and are refused under way."""
    world.server.modern = era == "2026-07-28"
    world.issuer.life_s = 0.3
    people = [
        Principal(subject, issuer, tenant, kind="user")
        for subject in ("alice", "bob", "alice|bob", "")
        for issuer in ("idp", "other")
        for tenant in ("", "red")
    ]
    upstream = await world.connect(world.exchange(), sessions_max=4)

    served: list[str] = []

    async def use(principal: Principal, n: int) -> None:
        for _ in range(6):
            if n == 0:
                world.issuer.revoke_all()
            try:
                said = await whoami(upstream, principal, era=era)
            except Unavailable:
                # Refused twice in a row: its token was taken back again before it could be used.
                continue
            assert said == said_of(principal)
            served.append(said)

    async with asyncio.TaskGroup() as tasks:
        for n, principal in enumerate(people):
            tasks.create_task(use(principal, n))
            tasks.create_task(use(principal, n))
    # Then in peace, since chance may have had somebody's tokens taken back before each of his calls.
    world.issuer.life_s = 60.0
    credentials = upstream.spec.credentials
    assert isinstance(credentials, BearerCredentials)
    for principal in people:
        credentials.forget(principal)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await world.until(upstream, "up")
                # The node's own token was taken back as well, so that it may go down once more.
                with contextlib.suppress(Unavailable):
                    assert await whoami(upstream, principal, era=era) == said_of(principal)
                    break
                await asyncio.sleep(0)
    assert len(set(served)) > 1
    assert bool(world.server.sessions) is (era != "2026-07-28")
    assert not world.server.strangers
