"""The pure parts: challenges, metadata, scopes, client authentication, the tokens of callers."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from node.credentials.callers import TOKENS_MAX, CallerTokens
from node.credentials.challenge import Challenge, parse_challenge, scopes_of
from node.credentials.client_auth import OAuthClient, SigningKey, method_for
from node.credentials.discovery import Discovered
from node.credentials.metadata import (
    AuthorizationServer,
    canonical,
    covers,
    resource_metadata_urls,
    server_metadata_urls,
)
from node.credentials.scopes import chosen_scopes
from node.upstreams.login import challenge_in
from proto.errors import Invalid
from proto.records import Principal
from tests.node.credentials.conftest import PEM, new_pem


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ("", None),
        ("Basic realm=x", None),
        ("Bearer", Challenge()),
        ('bearer scope="a b a"', Challenge(scopes=("a", "b"))),
        ('Bearer error=insufficient_scope,scope="x"', Challenge("insufficient_scope", ("x",))),
        ('Basic realm="a, Bearer scope=\\"no\\"", Bearer scope="yes"', Challenge(scopes=("yes",))),
        ('Negotiate abc==, Bearer error="invalid_token"', Challenge("invalid_token")),
        ('Bearer scope="a", DPoP algs="ES256", scope="b"', Challenge(scopes=("a",))),
        ('Bearer scope="a", Bearer scope="b"', Challenge(scopes=("a",))),
        ('Bearer scope="a" scope="b"', Challenge(scopes=("a",))),
        ('Bearer resource_metadata="https://x/y\\"z"', Challenge(resource_metadata='https://x/y"z')),
        ('Bearer scope="unended', Challenge()),
        ("Bearer \x00", Challenge()),
    ],
)
def test_a_challenge_is_read_as_far_as_it_can_be(header: str, challenge: Challenge | None) -> None:
    assert parse_challenge(header) == challenge


@given(st.text(alphabet=string.printable + "\x00é", max_size=300))
def test_no_header_breaks_the_reader(header: str) -> None:
    for text in (header, f"Bearer {header}"):
        found = parse_challenge(text)
        assert found is None or all(" " not in scope for scope in found.scopes)


def test_scopes_that_are_none_are_left_out() -> None:
    assert scopes_of('a "b" c\\d ü e') == ("a", "e")
    assert scopes_of(None) == ()


def test_several_lines_of_a_header_are_one_challenge() -> None:
    from multidict import CIMultiDict, CIMultiDictProxy

    lines = CIMultiDict([("WWW-Authenticate", "Basic realm=a"), ("www-authenticate", "Bearer scope=b")])
    found = parse_challenge(challenge_in(CIMultiDictProxy(lines)))
    assert found == Challenge(scopes=("b",))


@pytest.mark.parametrize(
    ("resource", "url", "good"),
    [
        ("https://a.example/mcp", "https://a.example/mcp", True),
        ("https://a.example", "https://a.example/mcp", True),
        ("https://a.example/", "https://a.example/mcp/x", True),
        ("https://A.example:443/mcp", "https://a.example/mcp", True),
        ("https://a.example/mcp", "wss://a.example/mcp", True),
        ("https://a.example/mcp", "https://a.example/mcp2", False),
        ("https://a.example/mcp/x", "https://a.example/mcp", False),
        ("http://a.example/mcp", "https://a.example/mcp", False),
        ("https://a.example:8443/mcp", "https://a.example/mcp", False),
        ("https://b.example/mcp", "https://a.example/mcp", False),
        ("https://a.example/mcp#x", "https://a.example/mcp", False),
        ("https://a.example/mcp?t=1", "https://a.example/mcp", False),
        ("https://[bad", "https://a.example/mcp", False),
    ],
)
def test_a_resource_covers_what_lies_below_it(resource: str, url: str, good: bool) -> None:
    assert covers(resource, url) is good


def test_metadata_is_looked_for_where_the_specification_says() -> None:
    assert resource_metadata_urls("https://a.example/mcp/x") == (
        "https://a.example/.well-known/oauth-protected-resource/mcp/x",
        "https://a.example/.well-known/oauth-protected-resource",
    )
    assert server_metadata_urls("https://idp.example/t1") == (
        "https://idp.example/.well-known/oauth-authorization-server/t1",
        "https://idp.example/.well-known/openid-configuration/t1",
        "https://idp.example/t1/.well-known/openid-configuration",
    )
    assert server_metadata_urls("https://idp.example") == (
        "https://idp.example/.well-known/oauth-authorization-server",
        "https://idp.example/.well-known/openid-configuration",
    )
    assert canonical("WSS://A.example/") == "https://a.example"


def test_scopes_are_chosen_in_the_order_of_the_specification() -> None:
    server = AuthorizationServer("https://idp.example", scopes_supported=("offline_access", "all"))
    found = Discovered(server, "https://a.example", ("read", "write"))
    asked = Challenge(scopes=("read",))
    assert chosen_scopes(("mine",), asked, found) == ("mine",)
    assert chosen_scopes((), asked, found) == ("read",)
    assert chosen_scopes((), None, found) == ("read", "write")
    assert chosen_scopes((), None, Discovered(server, "https://a.example")) == ()
    assert chosen_scopes((), asked, found, ("write", "read")) == ("read", "write")
    assert chosen_scopes((), asked, found, offline=True) == ("read", "offline_access")


def test_a_client_id_and_secret_are_encoded_before_they_are_joined() -> None:
    client = OAuthClient("a:b", "c d/%", "client_secret_basic")
    _, headers = client.proof(AuthorizationServer("https://idp.example"))
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"a%3Ab:c+d%2F%25"


def test_a_client_assertion_is_short_signed_and_for_one_issuer() -> None:
    client = OAuthClient("me", method="private_key_jwt", key=SigningKey(PEM, "k1"))
    fields, headers = client.proof(AuthorizationServer("https://idp.example", token_endpoint="https://idp.example/t"))
    token = jwt.decode(fields["client_assertion"], ECKey.import_key(PEM), algorithms=["ES256"])
    assert headers == {}
    assert token.header["kid"] == "k1"
    assert {k: token.claims[k] for k in ("iss", "sub", "aud")} == {
        "iss": "me",
        "sub": "me",
        "aud": "https://idp.example",
    }
    assert token.claims["exp"] - token.claims["iat"] == 60
    again, _ = client.proof(AuthorizationServer("https://idp.example"))
    assert jwt.decode(again["client_assertion"], ECKey.import_key(PEM)).claims["jti"] != token.claims["jti"]


def test_no_key_or_secret_is_shown_by_repr() -> None:
    client = OAuthClient("me", "s3cret", "client_secret_basic", SigningKey(PEM))
    assert "s3cret" not in repr(client)
    assert PEM.splitlines()[1] not in repr(client)


@pytest.mark.parametrize("pem", ["", "x", PEM.replace("PRIVATE", "PUBLIC"), PEM[:60]])
def test_what_is_no_private_key_is_refused_without_a_word_of_it(pem: str) -> None:
    with pytest.raises(Invalid) as e:
        SigningKey(pem)
    assert pem.splitlines()[1:2] == [] or pem.splitlines()[1] not in e.value.message


def test_the_stronger_way_that_the_server_takes_is_chosen() -> None:
    def server(*methods: str) -> AuthorizationServer:
        return AuthorizationServer("https://idp.example", token_auth_methods=methods)

    assert method_for(server("client_secret_post"), has_secret=True, has_key=False) == "client_secret_post"
    assert method_for(server("none", "private_key_jwt"), has_secret=False, has_key=True) == "private_key_jwt"
    assert method_for(server(), has_secret=True, has_key=False) == "client_secret_basic"
    with pytest.raises(Invalid, match="takes none, not client_secret_basic or client_secret_post"):
        method_for(server("none"), has_secret=True, has_key=False)


def test_a_callers_token_is_forgotten_when_it_ends_and_beyond_the_bound() -> None:
    now = 100.0
    callers = CallerTokens(lambda: now)
    ends = Principal("a", "idp", kind="user", expires_s=200)
    callers.keep(ends, "t1")
    assert callers.token(ends) == "t1"
    now = 200.0
    assert callers.token(ends) == ""
    for n in range(TOKENS_MAX + 1):
        callers.keep(Principal(f"p{n}", "idp", kind="user"), "t")
    assert callers.token(Principal("p0", "idp", kind="user")) == ""
    assert repr(callers) == f"CallerTokens({TOKENS_MAX})"


def test_a_newer_token_of_the_same_caller_replaces_the_older() -> None:
    callers = CallerTokens()
    callers.keep(Principal("a", "idp", kind="user", credential="jti/1"), "t1")
    callers.keep(Principal("a", "idp", kind="user", credential="jti/2"), "t2")
    assert callers.token(Principal("a", "idp", kind="user", credential="jti/1")) == "t2"
    assert callers.token(Principal("a", "other", kind="user")) == ""


def test_each_new_key_signs_for_itself() -> None:
    assert SigningKey(new_pem()).public() != SigningKey(PEM).public()
    assert "d" not in SigningKey(PEM).public()
