"""A person's way through the pages, every form followed, against a strict authorization server."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from node.consent import sessions as sessions_module
from node.consent.consents import tag_of
from node.credentials.consent_grants import holder_of
from node.credentials.ports import Asked, ConsentNeeded
from proto import jsons
from proto.records import ANONYMOUS, Principal
from tests.node.consent.conftest import ALICE, BOB, Browser, Page, Site


def ticket_for(site: Site, principal: Principal = ALICE) -> str:
    text, _ = site.consents.tickets.make("files", holder_of(principal), ())
    return f"/oauth/start/{text}"


async def asked_page(site: Site, browser: Browser, principal: Principal = ALICE) -> Page:
    signing_in = await browser.get(ticket_for(site, principal))
    assert signing_in.url.startswith(f"{site.base}/oauth/signin")
    return await browser.sign_in(key="alice-key", at=signing_in)


async def connected(site: Site, browser: Browser) -> Page:
    page = await asked_page(site, browser)
    return await browser.submit(page, page.form("/oauth/connect/files"))


async def test_who_was_sent_here_signs_in_agrees_and_is_connected(site, browser, authority):
    page = await asked_page(site, browser)
    assert page.status == 200
    for said in ("alice", "files", "eu-1", authority.base, "read", "write"):
        assert said in page.says
    assert "The <files> & more" in page.says
    assert "<files>" not in page.text
    done = await browser.submit(page, page.form("/oauth/connect/files"))
    assert "files is connected" in done.says
    token = await site.source.obtain(ALICE, Asked())
    assert authority.tokens[token.access_token] == "someone"
    assert site.granted == [("files", ALICE.identity)]
    assert site.told == [("alice", "consent", "files", "ok")]
    # What was asked of the authorization server.
    (asked,) = authority.asked
    assert asked["resource"] == f"{authority.base}/mcp"
    assert asked["redirect_uri"] == f"{site.base}/oauth/callback/{tag_of(authority.base)}"
    assert set(asked["scope"].split()) == {"read", "write", "offline_access"}


async def test_without_a_ticket_a_person_connects_from_the_page_of_connections(site, browser):
    page = await browser.sign_in(user="bob", password="secret")
    assert "Not connected" in page.says
    (link,) = [link for link in page.links if link == "/oauth/connect/files"]
    page = await browser.get(link)
    done = await browser.submit(page, page.form("/oauth/connect/files"))
    assert "files is connected" in done.says
    assert await site.source.obtain(BOB, Asked())


async def test_a_ticket_of_somebody_else_is_refused_and_nothing_begins(site, browser, authority):
    signing_in = await browser.get(ticket_for(site, ALICE))
    page = await browser.sign_in(user="bob", password="secret", at=signing_in)
    assert page.status == 403
    assert "made for somebody else" in page.says
    assert "alice" not in page.says
    # Nor by a form that bears it.
    mine = await browser.get("/oauth/connect/files")
    form = mine.form("/oauth/connect/files")
    stolen = urlsplit(ticket_for(site, ALICE)).path.rpartition("/")[2]
    assert (await browser.submit(mine, form, ticket=stolen)).status == 404
    assert authority.asked == []
    assert site.told == [("bob", "consent", "files", "forbidden")]


async def test_nothing_begins_before_the_form_is_sent(site, browser, authority):
    await asked_page(site, browser)
    assert authority.asked == []
    assert len(site.consents.flows._open) == 0


async def test_the_answer_counts_once_and_in_the_browser_that_asked(site, browser, other_browser, authority):
    page = await asked_page(site, browser)
    going = await browser.submit(page, page.form("/oauth/connect/files"), follow=False)
    back = await browser.get(going.refresh, follow=False)
    answer = back.headers["Location"]
    # Carried into another browser, even one of the same person, it is worth nothing there.
    await other_browser.sign_in(key="alice-key")
    stolen = await other_browser.get(answer)
    assert stolen.status == 400
    assert "another browser session" in stolen.says
    # And is used up by that.
    again = await browser.get(answer)
    assert again.status == 400
    with pytest.raises(ConsentNeeded):
        await site.source.obtain(ALICE, Asked())


async def test_an_answer_is_taken_once(site, browser):
    page = await asked_page(site, browser)
    going = await browser.submit(page, page.form("/oauth/connect/files"), follow=False)
    back = await browser.get(going.refresh, follow=False)
    assert (await browser.get(back.headers["Location"])).status == 200
    assert (await browser.get(back.headers["Location"])).status == 400


@pytest.mark.parametrize("iss", ["https://evil.example", "", "HTTP://127.0.0.1"])
async def test_an_answer_of_another_issuer_is_refused_before_its_code_is_shown_to_anybody(
    site, browser, authority, iss
):
    authority.says_iss = iss
    done = await connected(site, browser)
    assert done.status == 400
    assert "another issuer" in done.says
    assert len(authority.codes) == 1, "the code was shown to nobody"


@pytest.mark.parametrize("at", ["", f"/{tag_of('https://honest.example')}"])
async def test_an_answer_that_came_to_another_issuers_address_is_shown_to_nobody(site, browser, authority, at):
    """A hostile issuer sends the browser on to an honest one, which says nothing of itself (RFC 9700 §4.4.1)."""
    authority.says_iss = None
    page = await asked_page(site, browser)
    going = await browser.submit(page, page.form("/oauth/connect/files"), follow=False)
    back = (await browser.get(going.refresh, follow=False)).headers["Location"]
    own = f"/oauth/callback/{tag_of(authority.base)}"
    assert own in back
    done = await browser.get(back.replace(own, f"/oauth/callback{at}"))
    assert (done.status, len(authority.codes)) == (400, 1)
    assert "came to another address" in done.says
    assert (await browser.get(back)).status == 400, "it counts once, wherever it comes to"


async def test_an_issuer_that_promised_to_name_itself_must_do_so(site, browser, authority):
    page = await asked_page(site, browser)
    authority.more = {"authorization_response_iss_parameter_supported": True}
    authority.says_iss = None
    done = await browser.submit(page, page.form("/oauth/connect/files"))
    assert done.status == 400
    assert len(authority.codes) == 1


async def test_a_refusal_there_is_told_escaped(site, browser, authority):
    authority.error = "access_denied<script>alert(1)</script>"
    done = await connected(site, browser)
    assert done.status == 400
    assert "access_denied<script>" in done.says
    assert "<script>" not in done.text


@pytest.mark.parametrize(
    "endpoint",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://as.example/authorize",
        "https://user:pw@as.example/",
        "https://as.example/$(reboot)`x`",
        "calculator://x",
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_https_cve_2025_6514(site, browser, authority, endpoint):
    authority.more = {"authorization_endpoint": endpoint}
    page = await asked_page(site, browser)
    assert page.status == 503
    assert not page.refresh
    assert not any(link.startswith(("javascript", "file", "calculator")) for link in page.links)


async def test_an_authorization_server_without_pkce_is_not_used(site, browser, authority):
    authority.pkce = ()
    page = await asked_page(site, browser)
    assert page.status == 503
    assert "PKCE" in page.says


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/oauth/start/../../x", "/mcp", "\\evil"])
async def test_a_sign_in_leads_nowhere_but_to_our_own_pages(site, browser, to):
    page = await browser.get("/oauth/signin")
    form = page.form("/oauth/signin", how="key")
    done = await browser.submit(page, form, key="alice-key", to=to, follow=False)
    assert (done.status, done.headers["Location"]) == (303, "/oauth")


async def test_a_wrong_key_signs_nobody_in(site, browser):
    page = await browser.sign_in(key="wrong")
    assert page.status == 403
    assert "not a key or password" in page.says
    assert "wrong" not in page.text.replace('class="wrong"', "").replace(".wrong", "")
    assert len(site.sessions) == 0
    # The page that says so can be used to try again.
    assert (await browser.sign_in(key="alice-key", at=page)).status == 200


async def test_a_sign_in_page_in_another_tab_is_still_good(site, browser):
    first = await browser.get("/oauth/signin")
    await browser.get("/oauth/signin")
    assert (await browser.sign_in(key="alice-key", at=first)).status == 200


async def test_guesses_are_counted_at_the_door_and_end_there(site, browser):
    for _ in range(3):
        assert (await browser.sign_in(key="wrong")).status == 403
    page = await browser.sign_in(key="alice-key")
    assert page.status == 429
    assert page.headers["Retry-After"] == "30"
    assert len(site.sessions) == 0


async def test_a_session_gets_a_new_id_at_every_sign_in_and_its_cookie_is_out_of_reach_of_pages(site, browser):
    page = await browser.get("/oauth/signin")
    first = await browser.submit(page, page.form("/oauth/signin", how="key"), key="alice-key", follow=False)
    cookie = next(v for k, v in first.headers.items() if k == "Set-Cookie")
    assert re.match(r"__Host-toolmesh=[A-Za-z0-9_-]{43};", cookie)
    for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie
    old = browser.cookies()["__Host-toolmesh"]
    await browser.sign_in(key="alice-key")
    assert browser.cookies()["__Host-toolmesh"] != old
    assert site.sessions.find(old) is None


async def test_a_form_without_its_token_or_from_another_site_does_nothing(site, browser, authority):
    page = await asked_page(site, browser)
    form = page.form("/oauth/connect/files")
    assert (await browser.submit(page, form, csrf="0" * 64)).status == 400
    assert (await browser.submit(page, {k: v for k, v in form.items() if k != "csrf"})).status == 400
    data = {k: v for k, v in form.items() if not k.startswith("_")}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await browser.post("/oauth/connect/files", data, headers)).status == 400
    assert authority.asked == []
    # The sign-in's own form as well: nobody is signed in as somebody else by another page.
    at = await browser.get("/oauth/signin")
    signing = at.form("/oauth/signin", how="key")
    assert (await browser.submit(at, signing, key="alice-key", csrf="1" * 64)).status == 400


async def test_a_form_token_of_one_session_is_worth_nothing_in_another(site, browser, other_browser):
    mine = await asked_page(site, browser)
    await other_browser.sign_in(key="alice-key")
    form = mine.form("/oauth/connect/files")
    assert (await other_browser.submit(mine, form)).status == 400


async def test_pages_run_no_script_load_nothing_and_stand_in_no_frame(site, browser):
    for page in (await browser.get("/oauth/signin"), await asked_page(site, browser), await browser.get("/oauth")):
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert "script" not in policy
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.tags.isdisjoint({"script", "img", "link", "iframe", "object"})
        assert not re.search(r"\son\w+=", page.text)
        assert '<html lang="en">' in page.text


async def test_pages_are_under_no_other_name_than_the_nodes_own(site, browser):
    page = await browser.get("/oauth/signin", headers={"Host": "rebound.example"})
    assert page.status == 400
    assert not page.forms


async def test_a_session_ends_with_its_time_and_with_the_credential_that_opened_it(site, browser, monkeypatch):
    page = await connected(site, browser)
    assert "Take back" in page.says
    site.known.ended.add("key/alice")
    assert (await browser.get("/oauth")).url.startswith(f"{site.base}/oauth/signin")
    site.known.ended.clear()
    await browser.sign_in(key="alice-key")
    now = [0.0]
    monkeypatch.setattr(site.sessions, "_clock", lambda: now[0])
    await browser.sign_in(key="alice-key")
    assert (await browser.get("/oauth")).url == f"{site.base}/oauth"
    now[0] = sessions_module.SESSION_S + 1
    assert (await browser.get("/oauth")).url.startswith(f"{site.base}/oauth/signin")


async def test_sessions_are_bounded_and_the_oldest_of_one_person_ends_first():
    sessions = sessions_module.Sessions()
    bobs = sessions.begin(BOB)
    ids = [sessions.begin(ALICE) for _ in range(sessions_module.SESSIONS_OF_ONE_MAX + 2)]
    assert [sessions.find(i) is not None for i in ids] == [False] * 2 + [True] * sessions_module.SESSIONS_OF_ONE_MAX
    assert sessions.find(bobs) is not None
    for n in range(sessions_module.SESSIONS_MAX):
        sessions.begin(Principal(f"p{n}", "mesh.test"))
    assert len(sessions) == sessions_module.SESSIONS_MAX
    assert sessions.find(bobs) is None


async def test_where_nobody_must_prove_anything_one_goes_on_as_nobody_in_particular(site, browser, monkeypatch):
    async def anybody(credentials):
        return ANONYMOUS

    site.known.authenticate = anybody
    shown = await browser.get("/oauth/signin")
    with pytest.raises(StopIteration):
        shown.form("/oauth/signin", how="known")
    monkeypatch.setattr(site.signing_in, "_demanded", False)
    page = await browser.get(ticket_for(site, ANONYMOUS))
    page = await browser.submit(page, page.form("/oauth/signin", how="known"))
    done = await browser.submit(page, page.form("/oauth/connect/files"))
    assert "files is connected" in done.says
    assert await site.source.obtain(ANONYMOUS, Asked())
    # Whoever types a key there is not taken for anonymous because it is wrong.
    assert (await browser.sign_in(key="wrong")).status == 403


async def test_the_document_of_this_client_is_there_where_it_can_be_fetched(site, browser, monkeypatch):
    tag = tag_of("https://issuer.example")
    assert (await browser.get(f"/oauth/client/{tag}.json")).status == 404
    monkeypatch.setattr(site.consents, "_public_url", lambda: "https://node.example")
    page = await browser.get(f"/oauth/client/{tag}.json")
    said = jsons.loads(page.text)
    assert said["client_id"] == f"https://node.example/oauth/client/{tag}.json"
    assert said["redirect_uris"] == [f"https://node.example/oauth/callback/{tag}"]
    assert said["token_endpoint_auth_method"] == "none"


async def test_who_signs_out_is_signed_out(site, browser):
    page = await browser.sign_in(key="alice-key")
    cookie = browser.cookies()["__Host-toolmesh"]
    out = await browser.submit(page, page.form("/oauth/signout"))
    assert out.url.startswith(f"{site.base}/oauth/signin")
    assert site.sessions.find(cookie) is None


async def test_each_takes_back_its_own_grant_which_is_revoked_there(site, browser, other_browser, authority):
    page = await connected(site, browser)
    await other_browser.sign_in(user="bob", password="secret")
    bobs = await other_browser.get("/oauth")
    assert "Take back" not in bobs.says
    form = {"_action": "/oauth/remove/files", "csrf": bobs.form("/oauth/signout")["csrf"]}
    await other_browser.submit(bobs, form)
    assert await site.source.obtain(ALICE, Asked()), "somebody else's removal touched it"
    after = await browser.submit(page, page.form("/oauth/remove/files"))
    assert "Not connected" in after.says
    assert len(authority.revoked) == 1
    with pytest.raises(ConsentNeeded):
        await site.source.obtain(ALICE, Asked())


@pytest.mark.parametrize("ticket", ["x", "tm1.AAAA", "a" * 5000])
async def test_a_ticket_that_is_not_ours_says_what_to_do(site, browser, ticket):
    page = await browser.get(f"/oauth/start/{ticket}")
    assert page.status == 400
    assert "call once more from your agent" in page.says


async def test_a_server_that_one_may_not_see_is_answered_like_one_that_does_not_exist(site, browser):
    site.known.tokens["t"] = Principal("stranger", "mesh.test")
    session = site.sessions.begin(site.known.tokens["t"])
    browser.http.cookie_jar.update_cookies({"__Host-toolmesh": session}, response_url=_url(site))
    seen = [await browser.get(f"/oauth/connect/{name}") for name in ("files", "nothing")]
    assert [p.status for p in seen] == [404, 404]
    assert seen[0].text == seen[1].text


async def test_a_parameter_that_comes_twice_is_refused(site, browser):
    await browser.sign_in(key="alice-key")
    page = await browser.get("/oauth/callback?state=a&state=b&code=c")
    assert page.status == 400
    assert "twice" in page.says


async def test_forms_are_bounded(site, browser):
    page = await browser.get("/oauth/signin")
    form = page.form("/oauth/signin", how="key")
    assert (await browser.submit(page, form, key="x" * 20_000)).status == 400
    assert (await browser.submit(page, form, **{f"f{n}": "" for n in range(40)})).status == 400


async def test_the_state_and_the_verifier_are_new_each_time_and_in_no_page(site, browser, authority):
    await connected(site, browser)
    page = await browser.get("/oauth/connect/files")
    await browser.submit(page, page.form("/oauth/connect/files"))
    first, second = authority.asked
    assert first["state"] != second["state"]
    assert first["code_challenge"] != second["code_challenge"]
    assert first["client_id"] == second["client_id"]
    assert authority.registered == 1
    assert all("code_verifier" not in parse_qs(urlsplit(url).query) for url in browser.went)


def _url(site: Site):
    from yarl import URL

    return URL(site.base)
