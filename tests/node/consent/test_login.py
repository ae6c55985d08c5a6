"""Signing in at a configured issuer, in a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from node.consent.login import LoginIssuer, Logins
from proto.errors import Unauthenticated
from tests.node.consent.conftest import ALICE, Browser, Site, make_site


@pytest.fixture
async def site(authority) -> AsyncIterator[Site]:
    """Its sign-in page leads to the authorization server of these tests, whose tokens the node takes for alice's."""
    runners, https = [], []
    issuer = LoginIssuer(authority.base, "login-client", scopes=("openid",))
    site = await make_site(authority, runners, https, logins=lambda http, url: Logins((issuer,), http, url))
    authority.clients["login-client"] = {"redirect_uris": [f"{site.base}/oauth/login/callback"]}
    authority.audience = site.base
    authenticate = site.known.authenticate

    async def tokens_too(credentials):
        if credentials.bearer and authority.tokens.get(credentials.bearer):
            return ALICE
        return await authenticate(credentials)

    site.known.authenticate = tokens_too
    yield site
    for part in (*https, *runners):
        await (part.close() if hasattr(part, "close") else part.cleanup())


async def test_a_person_who_signs_in_at_the_issuer_is_who_an_agent_with_its_token_is(site, browser, authority):
    page = await browser.get("/oauth/signin?to=/oauth")
    (link,) = [link for link in page.links if link.startswith("/oauth/login/0")]
    home = await browser.get(link)
    assert home.url == f"{site.base}/oauth"
    assert "Signed in as alice" in home.says
    (asked,) = authority.asked
    assert asked["resource"] == site.base
    assert asked["scope"] == "openid"
    assert asked["code_challenge_method"] == "S256"


async def test_an_answer_counts_only_in_the_browser_that_went_there(site, browser, other_browser, authority):
    going = await browser.get("/oauth/login/0", follow=False)
    back = await browser.get(going.headers["Location"], follow=False)
    # An attacker's answer brought into somebody's browser would sign that one in as the attacker.
    assert (await other_browser.get(back.headers["Location"])).status == 400
    await other_browser.get("/oauth/signin")
    assert (await other_browser.get(back.headers["Location"])).status == 400
    assert len(site.sessions) == 0


async def test_a_token_that_the_node_does_not_take_signs_nobody_in(site, browser, authority):
    going = await browser.get("/oauth/login/0", follow=False)
    back = await browser.get(going.headers["Location"], follow=False)

    async def nobody(credentials):
        raise Unauthenticated("the token's audience is not this node")

    site.known.authenticate = nobody
    page = await browser.get(back.headers["Location"])
    assert page.status == 403
    assert len(site.sessions) == 0


async def test_an_issuer_that_is_not_configured_is_not_there(site, browser: Browser):
    assert (await browser.get("/oauth/login/7")).status == 404


async def test_whoever_comes_does_not_make_this_node_ask_the_issuer_each_time(site, browser, authority):
    for _ in range(3):
        await browser.get("/oauth/login/0", follow=False)
    assert authority.described == 1
