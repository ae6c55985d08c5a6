"""Whatever comes from outside into the pages ends in a page, and in nothing else."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import quote, urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from node.consent.browser import single
from node.consent.pages import ask, connections, message, sign_in
from node.consent.tickets import Tickets
from node.credentials import consent_flow
from node.credentials.consent_flow import Flows, check_address, with_query
from node.credentials.metadata import AuthorizationServer
from node.credentials.tokens import OAuthClient
from node.sealing import Sealer
from proto.errors import Invalid, Unavailable
from tests.node.consent.conftest import ALICE

AS = AuthorizationServer(
    "https://as.example",
    "https://as.example/authorize?tenant=1&state=theirs",
    "https://as.example/token",
    code_challenge_methods=("S256",),
)
anything = st.text(max_size=200)
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(anything)
def test_no_text_is_taken_for_a_ticket(text):
    with pytest.raises(Invalid):
        Tickets("eu-1", Sealer([b"k" * 32])).open(text)


@QUIET
@given(st.dictionaries(st.sampled_from(["state", "code", "iss", "error"]), anything), anything)
def test_no_parameters_are_taken_for_an_answer(parameters, browser):
    flows = Flows()
    flows.begin(
        "files",
        ALICE.identity,
        AS,
        OAuthClient("c"),
        "https://node.example/oauth/callback",
        resource="https://files.example/mcp",
        scopes=("a",),
        browser="b",
    )
    with pytest.raises(Invalid):
        flows.take(parameters, browser)
    assert len(flows._open) == 1


def test_what_an_authorization_servers_address_says_already_cannot_replace_what_is_asked():
    flows = Flows()
    url = URL(flows.begin("f", None, AS, OAuthClient("c"), "https://n.example/cb", resource="", scopes=(), browser="b"))
    assert url.query.getall("state") != ["theirs"]
    assert len(url.query.getall("state")) == 1
    assert url.query["tenant"] == "1"


@QUIET
@given(anything)
def test_an_address_is_https_or_of_this_machine_or_refused(text):
    for url in (text, f"https://{text}", f"javascript:{text}", f"http://127.0.0.1{text}"):
        try:
            check_address(url, "address")
        except Unavailable:
            continue
        seen = URL(url, encoded=True)
        assert seen.scheme == "https" or (seen.scheme == "http" and ip_address(seen.host or "").is_loopback)
        assert not set(url) & set("\"'<>` \n")


def test_flows_are_bounded_and_the_oldest_go_first():

    flows = Flows()

    def begin(subject: str) -> str:
        url = flows.begin(
            "f", ("", "", subject), AS, OAuthClient("c"), "https://n.example/cb", resource="", scopes=(), browser="b"
        )
        return URL(url).query["state"]

    first = begin("x")
    mine = [begin("alice") for _ in range(consent_flow.FLOWS_OF_ONE_MAX + 1)]
    with pytest.raises(Invalid):
        flows.take({"state": mine[0], "code": "c"}, "b")
    assert flows.take({"state": mine[1], "code": "c"}, "b")[1] == "c"
    for n in range(consent_flow.FLOWS_MAX):
        begin(f"p{n}")
    assert len(flows._open) == consent_flow.FLOWS_MAX
    with pytest.raises(Invalid):
        flows.take({"state": first, "code": "c"}, "b")


def test_a_flow_ends_with_its_time():
    now = [0.0]
    flows = Flows(lambda: now[0])
    url = flows.begin("f", None, AS, OAuthClient("c"), "https://n.example/cb", resource="", scopes=(), browser="b")
    now[0] = 601.0
    with pytest.raises(Invalid, match="too old"):
        flows.take({"state": URL(url).query["state"], "code": "c"}, "b")


@QUIET
@given(anything.map(lambda t: f"{t}<script>'\"&"))
def test_nothing_that_others_say_becomes_markup(text):
    shown = [
        message(text, text, form_token=text, who=text),
        sign_in(text, text, text, [], known_as=text, wrong=text),
        connections(text, text, [], text, connected=text),
        ask(
            node=text,
            who=text,
            server=text,
            title=text,
            issuer=text,
            goes_to=text,
            scopes=[text],
            form_token=text,
            ticket=text,
            again=True,
        ),
    ]
    assert not any("<script" in page for page in shown)


def test_a_parameter_that_is_given_twice_is_refused():
    assert single([("a", "1"), ("b", "2")]) == {"a": "1", "b": "2"}
    with pytest.raises(Invalid):
        single([("a", "1"), ("a", "1")])


def test_a_query_is_added_to_what_is_there():
    assert with_query("https://x.example/a?b=c&d=", {"e": "f g"}) == "https://x.example/a?b=c&d=&e=f+g"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=anything, body=st.binary(max_size=300), query=anything)
async def test_whatever_is_sent_is_answered_and_never_with_a_fault(site, path, body, query):
    async with aiohttp.ClientSession() as http:
        for method, where in (
            ("GET", f"/oauth/start/{quote(path, safe='')}"),
            ("GET", f"/oauth/connect/{quote(path, safe='')}"),
            ("GET", f"/oauth/callback?{urlencode({'state': path, 'code': query})}"),
            ("GET", f"/oauth/login/callback?{quote(query)}"),
            ("GET", f"/oauth/signin?{urlencode({'to': path})}"),
            ("POST", "/oauth/signin"),
            ("POST", f"/oauth/connect/{quote(path, safe='')}"),
        ):
            head = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
            url = URL(site.base + where, encoded=True)
            async with http.request(method, url, data=body or None, headers=head, allow_redirects=False) as answer:
                assert answer.status < 500, (where, answer.status)
