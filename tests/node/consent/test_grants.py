"""Whose token is whose: refresh, rotation, removal and eviction, and that nobody ever gets another's."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from node.credentials import consent_grants
from node.credentials.consent_grants import Grant, Grants, digest_of, holder_of
from node.credentials.discovery import Discovery
from node.credentials.ports import Asked, ConsentNeeded, Token
from node.secrets.memory import MemorySecrets
from node.settings.consent_auth import AuthorizationCodeAuth
from proto import jsons
from proto.errors import Exhausted, Invalid, MeshError
from proto.records import Principal
from tests.node.consent.conftest import ALICE, BOB, Site

ASKED = Asked()


async def consent(site: Site, authority, principal: Principal, account: str) -> Grant:
    """As the pages do it, without them."""
    url = await site.source.begin(principal, ASKED, "browser")
    authority.account = account
    async with (
        aiohttp.ClientSession() as http,
        http.get(URL(url, encoded=True), allow_redirects=False) as answer,
    ):
        back = URL(answer.headers["Location"])
    return await site.source.finish(dict(back.query), "browser")


def end_soon(site: Site, principal: Principal) -> None:
    """Its access token has run out."""
    grant = site.consents.grants.get("files", holder_of(principal))
    site.consents.grants.put(replace(grant, token=replace(grant.token, expires_s=1)))


async def test_a_token_that_ran_out_is_refreshed_once_for_all_who_wait(site, authority):
    await consent(site, authority, ALICE, "a")
    end_soon(site, ALICE)
    tokens = await asyncio.gather(*(site.source.obtain(ALICE, ASKED) for _ in range(20)))
    assert authority.refreshed == 1
    assert len({t.access_token for t in tokens}) == 1
    # The lists' own identity is the same grant: it waits with the others.
    end_soon(site, ALICE)
    both = await asyncio.gather(site.source.obtain(ALICE, ASKED), site.source.obtain(None, ASKED))
    assert authority.refreshed == 2
    assert both[0] == both[1]


async def test_the_rotated_refresh_token_is_kept_and_outlives_who_asked_for_it(site, authority):
    await consent(site, authority, ALICE, "a")
    end_soon(site, ALICE)
    authority.go_on.clear()
    asking = asyncio.create_task(site.source.obtain(ALICE, ASKED))
    await authority.arrived.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    authority.go_on.set()
    token = await site.source.obtain(ALICE, ASKED)
    assert authority.refreshed == 1
    end_soon(site, ALICE)
    assert (await site.source.obtain(ALICE, ASKED)).access_token != token.access_token
    assert authority.refreshed == 2, "the first refresh token would have ended the family"


async def test_who_rotates_nothing_keeps_its_refresh_token(site, authority):
    authority.rotates = False
    await consent(site, authority, ALICE, "a")
    for n in (1, 2):
        end_soon(site, ALICE)
        await site.source.obtain(ALICE, ASKED)
        assert authority.refreshed == n


async def test_a_token_that_the_server_refuses_is_renewed_only_if_nobody_did_so_meanwhile(site, authority):
    await consent(site, authority, ALICE, "a")
    old = await site.source.obtain(ALICE, ASKED)
    new = await site.source.renew(ALICE, old, ASKED)
    assert new.access_token != old.access_token
    assert await site.source.renew(ALICE, old, ASKED) == new
    assert authority.refreshed == 1


async def test_a_grant_that_ended_there_ends_here_and_consent_is_asked_anew(site, authority):
    await consent(site, authority, ALICE, "a")
    authority.refreshes.clear()
    end_soon(site, ALICE)
    with pytest.raises(ConsentNeeded):
        await site.source.obtain(ALICE, ASKED)
    assert site.consents.grants.get("files", ALICE.identity) is None
    assert site.granted == [("files", ALICE.identity)] * 2


async def test_an_authorization_server_that_is_away_ends_no_grant(site, authority):
    await consent(site, authority, ALICE, "a")
    end_soon(site, ALICE)
    refreshes, authority.refreshes = authority.refreshes, {}
    authority.more = {"token_endpoint": f"{authority.base}/nothing"}
    site.source._discovery.forget()
    with pytest.raises(MeshError) as raised:
        await site.source.obtain(ALICE, ASKED)
    assert not isinstance(raised.value, ConsentNeeded)
    authority.more, authority.refreshes = {}, refreshes
    assert await site.source.obtain(ALICE, ASKED)


async def test_scopes_beyond_what_was_asked_for_need_a_new_consent_and_those_refused_then_do_not(site, authority):
    await consent(site, authority, ALICE, "a")
    with pytest.raises(ConsentNeeded) as raised:
        await site.source.obtain(ALICE, Asked(scopes=("admin",), step_up=True))
    assert set(raised.value.scopes) == {"read", "write", "offline_access", "admin"}
    assert await site.source.obtain(ALICE, Asked(scopes=("write",)))


async def test_the_lists_are_asked_for_as_who_consented_first_and_is_still_there(site, authority):
    with pytest.raises(ConsentNeeded) as raised:
        await site.source.obtain(None, ASKED)
    assert raised.value.principal is None
    site.source._clock = lambda: 1_000.0
    await consent(site, authority, BOB, "b")
    site.source._clock = lambda: 2_000.0
    await consent(site, authority, ALICE, "a")
    site.source._clock = time.time
    assert authority.tokens[(await site.source.obtain(None, ASKED)).access_token] == "b"
    await site.source.remove(BOB.identity)
    assert authority.tokens[(await site.source.obtain(None, ASKED)).access_token] == "a"


async def test_a_grant_taken_back_in_mid_refresh_stays_taken_back(site, authority):
    await consent(site, authority, ALICE, "a")
    end_soon(site, ALICE)
    authority.go_on.clear()
    asking = asyncio.create_task(site.source.obtain(ALICE, ASKED))
    await authority.arrived.wait()
    await site.source.remove(ALICE.identity)
    authority.go_on.set()
    with pytest.raises(ConsentNeeded):
        await asking
    assert site.consents.grants.get("files", ALICE.identity) is None
    assert not authority.refreshes, "what the refresh brought was revoked as well"


async def test_a_grant_is_revoked_there_though_whoever_took_it_back_is_gone(site, authority):
    await consent(site, authority, ALICE, "a")
    authority.revoke_on.clear()
    removing = asyncio.create_task(site.source.remove(ALICE.identity))
    await authority.arrived.wait()
    removing.cancel()
    await asyncio.gather(removing, return_exceptions=True)
    assert site.consents.grants.get("files", ALICE.identity) is None
    authority.revoke_on.set()
    await authority.ended.wait()
    assert not authority.refreshes


NEAR = [
    Principal(subject, issuer, tenant)
    for subject in ("ann", "ann|x", "")
    for issuer in ("https://one.example", "https://two.example", "mesh")
    for tenant in ("", "red", "x")
] + [Principal(*parts) for sep in "|/\\n\x00" for parts in ((f"b{sep}c", "m", "a"), ("c", "m", f"a{sep}b"))]
"""Equal subjects of several issuers and tenants, and names that a careless joining would make equal."""


async def test_nobody_gets_anothers_token_whatever_happens_at_once(site, authority):
    """Consents, calls, refreshes, removals and the lists' identity, in no order, all at the same time."""
    assert len({digest_of(p.identity) for p in NEAR}) == len(NEAR)
    draw = random.Random(6)
    for n, principal in enumerate(NEAR):
        await consent(site, authority, principal, f"acc{n}")
    seen = 0

    async def live(n: int, principal: Principal) -> None:
        nonlocal seen
        for _ in range(12):
            match draw.randrange(5):
                case 0:
                    if site.consents.grants.get("files", principal.identity):
                        end_soon(site, principal)
                case 1 if draw.random() < 0.2:
                    await site.source.remove(principal.identity)
                case 2:
                    await _quiet(site.source.obtain(None, ASKED))
                case _:
                    token = await _quiet(site.source.obtain(principal, ASKED))
                    if token is not None:
                        seen += 1
                        assert authority.tokens[token.access_token] == f"acc{n}"
                        renewed = await _quiet(site.source.renew(principal, token, ASKED))
                        assert renewed is None or authority.tokens[renewed.access_token] == f"acc{n}"

    await asyncio.gather(*(live(n, p) for n, p in enumerate(NEAR) for _ in range(2)))
    assert seen > 50


async def _quiet(asking):
    try:
        return await asking
    except ConsentNeeded:
        return None


async def test_a_grant_is_of_no_use_at_another_server_that_took_over_the_name(site, authority):
    await consent(site, authority, ALICE, "a")
    auth, http = site.source._auth, site.source._http
    for url in (f"{authority.base}/elsewhere", f"https://evil.example{authority.resource_path}"):
        moved = site.consents.source("files", auth, Discovery("files", url, http), http)
        for principal in (ALICE, None):
            with pytest.raises(ConsentNeeded):
                await moved.obtain(principal, ASKED)
    below = Discovery("files", f"{authority.base}{authority.resource_path}/below", http)
    assert await site.consents.source("files", auth, below, http).obtain(ALICE, ASKED)


async def test_a_grant_of_an_issuer_that_is_not_the_configured_one_is_of_no_use_and_that_one_sees_no_secret(
    site, authority
):
    await consent(site, authority, ALICE, "a")
    auth = AuthorizationCodeAuth(
        kind="authorization_code",
        client_id=site.consents.grants.get("files", ALICE.identity).client_id,
        client_secret="the-secret-for-another-issuer",
        issuer="https://other.example",
    )
    http = site.source._http
    url = authority.base + authority.resource_path
    moved = site.consents.source("files", auth, Discovery("files", url, http), http)
    with pytest.raises(ConsentNeeded):
        await moved.obtain(ALICE, ASKED)
    assert await moved.remove(ALICE.identity)
    assert authority.proofs == [""]


texts = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
holders = st.tuples(texts, texts, texts)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "restart"]), st.integers(0, 3), holders), max_size=25))
def test_what_is_stored_is_found_by_its_own_holder_alone(acts):
    store = MemorySecrets()
    grants, model = Grants(store), {}
    servers = ("a", "a-b", "b", "oauth")
    for n, (act, which, holder) in enumerate(acts):
        server = servers[which]
        if act == "put":
            grants.put(Grant(server, holder, "c", "r", Token(f"secret{n}"), granted_s=n))
            model[server, holder] = f"secret{n}"
        elif act == "remove":
            assert grants.remove(server, holder) == (model.pop((server, holder), None) is not None)
        else:
            grants = Grants(store)
        for known in {h for _, h in model} | {holder}:
            for server in servers:
                found = grants.get(server, known)
                assert (found.token.access_token if found else None) == model.get((server, known))


def test_a_grant_that_was_moved_in_the_store_is_nobodys():
    store = MemorySecrets()
    Grants(store).put(Grant("files", ALICE.identity, "c", "r", Token("alices")))
    Grants(store).put(Grant("files", BOB.identity, "c", "r", Token("bobs")))
    grants = Grants(store)
    assert grants.get("files", BOB.identity).token.access_token == "bobs"
    names = [f"oauth/files/{digest_of(p.identity)}" for p in (ALICE, BOB)]
    store.set(names[1], store.get(names[0]))
    with pytest.raises(Invalid, match="somebody else's"):
        grants.get("files", BOB.identity)
    # To a node that starts on such a store the misplaced one does not exist.
    assert Grants(store).get("files", BOB.identity) is None


def test_a_grant_that_cannot_be_read_is_no_grant_and_costs_nobody_else_theirs(caplog):
    store = MemorySecrets()
    for person in (ALICE, BOB):
        Grants(store).put(Grant("files", person.identity, "c", "r", Token(f"{person.subject}s")))
    store.set(f"oauth/files/{digest_of(ALICE.identity)}", '{"server": "files"}')
    grants = Grants(store)
    assert grants.get("files", ALICE.identity) is None
    assert grants.get("files", BOB.identity).token.access_token == "bobs"
    assert "a grant cannot be used" in caplog.text
    grants.put(Grant("files", ALICE.identity, "c", "r", Token("again")))
    assert Grants(store).get("files", ALICE.identity).token.access_token == "again"


def test_grants_of_a_server_are_bounded(monkeypatch):
    monkeypatch.setattr(consent_grants, "GRANTS_MAX", 2)
    grants = Grants(MemorySecrets())
    for n in range(2):
        grants.put(Grant("files", ("", "", str(n)), "c", "r", Token("t")))
    with pytest.raises(Exhausted, match="toolmesh grants remove"):
        grants.put(Grant("files", ("", "", "2"), "c", "r", Token("t")))
    grants.put(Grant("files", ("", "", "1"), "c", "r", Token("again")))


def test_no_repr_shows_a_token():
    store = MemorySecrets()
    grants = Grants(store)
    grant = Grant("files", ALICE.identity, "c", "r", Token("SECRETA", refresh_token="SECRETR"))
    grants.put(grant)
    assert "SECRET" not in f"{grant!r} {grants!r} {store!r}"
    assert b"SECRETA" in jsons.dumps(store.get(store.names()[0]))
