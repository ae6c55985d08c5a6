"""What a token must be to be believed, and the ways in which it must not be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from joserfc.jwk import ECKey, OKPKey

from node.identity.chain import PROVED_S
from node.identity.jose import parse
from node.identity.jwks import keys_of
from node.ports import Credentials
from proto.errors import Invalid, ScopeRequired, Unauthenticated
from tests.node.identity.conftest import NOW_S, RSA, US, encoded, signed

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


async def test_a_good_token_says_who_calls_with_what_scopes_and_groups_and_for_whom(authority, who):
    act = {"sub": "agent", "act": {"sub": "planner", "iss": "https://other.example"}}
    principal = await who(authority.token(scope="read write", groups=["a b", "ops"], act=act))
    assert (principal.subject, principal.issuer, principal.kind) == ("ann", authority.url, "user")
    assert (principal.scopes, principal.groups) == (("read", "write"), ("a b", "ops"))
    assert principal.actors == ("agent", "https://other.example|planner")
    assert (principal.credential, principal.expires_s) == ("jti/t1", int(NOW_S) + 630)


async def test_a_token_without_an_id_is_named_by_a_digest_that_cannot_be_turned_back(authority, who):
    token = authority.token(jti=None)
    digest = hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    assert (await who(token)).credential == f"token/{digest[:16]}"


async def test_a_second_signature_that_anybody_can_make_of_the_first_gives_a_token_no_second_name(authority, who):
    """ECDSA takes (r, n - s) wherever it takes (r, s): who holds a revoked token must not make another of it."""
    token = authority.token(jti=None)
    text, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    flipped = (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    twin = f"{text}.{encoded(raw[:32] + flipped)}"
    assert twin != token
    assert (await who(twin)).credential == (await who(token)).credential


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSA),
        ("PS256", RSA),
        ("ES256", ECKey.generate_key("P-256", auto_kid=False)),
        ("EdDSA", OKPKey.generate_key("Ed25519", auto_kid=False)),
    ],
)
async def test_each_pinned_algorithm_is_taken_with_its_own_kind_of_key(authority, who, algorithm, key):
    authority.rotate("k", key)
    authority.algorithm = algorithm
    assert (await who(authority.token())).subject == "ann"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": int(NOW_S) - 31}, "accepted: it has expired"),
        ({"exp": None}, "no end"),
        ({"exp": "1900000600"}, "no time in seconds"),
        ({"exp": True}, "no time in seconds"),
        ({"exp": 1e300}, "no time in seconds"),
        ({"nbf": int(NOW_S) + 31}, "in the future"),
        ({"iat": int(NOW_S) + 3600}, "in the future"),
        ({"aud": None}, "no audience"),
        ({"aud": []}, "no audience"),
        ({"aud": {"a": 1}}, "no audience"),
        ({"aud": "https://other.example/mcp"}, "not for this server"),
        ({"aud": f"{US}.evil.example/mcp"}, "not for this server"),
        ({"aud": f"{US}/mcp/another"}, "not for this server"),
        ({"aud": [f"{US}/mcp"] * 65}, "no audience"),
        ({"sub": None}, "'sub' is no text"),
        ({"sub": ""}, "'sub' is no text"),
        ({"sub": "ann\n"}, "'sub' is no text"),
        ({"sub": "a" * 256}, "'sub' is no text"),
        ({"sub": ["ann"]}, "'sub' is no text"),
        ({"nonce": "n"}, "not an access token"),
        ({"typ": "ID"}, "not an access token"),
        ({"typ": "Refresh"}, "not an access token"),
        ({"events": {}}, "an event"),
        ({"scope": 7}, "no list"),
        ({"groups": [7]}, "no text"),
        ({"act": "agent"}, "no chain"),
        ({"act": {"act": {"sub": "x"}}}, "'act.sub' is no text"),
        ({"cnf": {"jkt": "x"}}, "DPoP"),
        ({"cnf": {"kid": "x"}}, "in a way that is not checked"),
        ({"cnf": {"x5t#S256": "short"}}, "names no certificate"),
    ],
)
async def test_a_claim_that_is_not_as_it_must_be_is_refused_by_name(authority, who, changed, why):
    with pytest.raises(Unauthenticated, match=why) as e:
        await who(authority.token(**changed))
    assert e.value.data["presented"] is True


async def test_a_chain_of_actors_has_an_end(authority, who):
    act: dict[str, object] = {"sub": "a0"}
    for i in range(1, 6):
        act = {"sub": f"a{i}", "act": act}
    with pytest.raises(Unauthenticated, match="at most 5 actors"):
        await who(authority.token(act=act))


@pytest.mark.parametrize(
    "audience", [US, f"{US}/", f"{US}/mcp", f"{US}/mcp/", f"{US}/mcp/time", ["x", f"{US}/mcp/time"]]
)
async def test_a_token_may_be_for_the_node_for_mcp_or_for_the_very_path_asked_for(authority, who, audience):
    assert (await who(authority.token(aud=audience), "/mcp/time")).subject == "ann"


async def test_a_token_remembered_at_one_path_does_not_open_another(authority, who):
    token = authority.token(aud=f"{US}/mcp/time")
    assert (await who(token, "/mcp/time")).subject == "ann"
    for path in ("/mcp", "/mcp/ledger", "/mcp/time2", ""):
        with pytest.raises(Unauthenticated, match="not for this server"):
            await who(token, path)


async def test_audiences_that_are_configured_replace_those_of_the_url(authority, who):
    assert (await who(authority.token(aud="api://mesh"), audiences=["api://mesh"])).subject == "ann"
    with pytest.raises(Unauthenticated, match="not for this server"):
        await who(authority.token(), audiences=["api://mesh"])


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"typ": "logout+jwt"}, "an access token's is"),
        ({"typ": "dpop+jwt"}, "an access token's is"),
        ({"typ": "secevent+jwt"}, "an access token's is"),
        ({"typ": 7}, "an access token's is"),
        ({"crit": ["exp"]}, "'crit'"),
        ({"crit": []}, "'crit'"),
        ({"b64": False}, "'b64'"),
        ({"zip": "DEF"}, "'zip'"),
        ({"enc": "A256GCM"}, "'enc'"),
        ({"kid": 7}, "no readable"),
        ({"kid": "k" * 300}, "no readable"),
    ],
)
async def test_a_header_that_would_have_it_read_in_another_way_is_refused(authority, who, header, why):
    """However well it is signed."""
    with pytest.raises(Unauthenticated, match=why):
        await who(authority.token(header))
    assert authority.asked == []


def test_a_key_checks_what_its_kind_is_for_and_nothing_else(authority):
    key = keys_of({"keys": [{**RSA.as_dict(private=False), "alg": "RS256"}]})[0]
    for algorithm, proved in (("RS256", True), ("PS256", False)):
        token = parse(signed({"alg": algorithm, "typ": "JWT"}, authority.claims(), RSA))
        assert key.proves(token) is proved


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_nobody_gets_in_without_a_signature(authority, who, algorithm):
    body = encoded(authority.claims())
    for signature in ("", encoded(b"x")):
        with pytest.raises(Unauthenticated):
            await who(f"{encoded({'alg': algorithm, 'kid': 'k1', 'typ': 'JWT'})}.{body}.{signature}")


async def test_the_public_key_is_no_secret_to_sign_with(authority, who):
    authority.rotate("k1", RSA)
    pem = RSA.as_pem(private=False)
    for secret in (pem, pem.strip(), json.dumps(RSA.as_dict(private=False)).encode()):
        text = f"{encoded({'alg': 'HS256', 'kid': 'k1', 'typ': 'JWT'})}.{encoded(authority.claims())}"
        token = f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"
        for pinned in ({}, {"algorithms": ["RS256"]}):
            with pytest.raises(Unauthenticated, match="signed with"):
                await who(token, **pinned)


async def test_keys_that_a_token_brings_or_points_to_are_never_looked_at(authority, who):
    mine = ECKey.generate_key("P-256", auto_kid=False)
    for header in (
        {"jwk": mine.as_dict(private=False)},
        {"jku": f"{authority.url}/evil", "kid": "mine"},
        {"x5u": f"{authority.url}/evil", "kid": "mine"},
        {"x5c": ["AAAA"], "kid": "mine"},
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": f"{authority.url}/evil"},
    ):
        with pytest.raises(Unauthenticated, match="no key of its issuer"):
            await who(signed({"alg": "ES256", "kid": "k1", "typ": "JWT", **header}, authority.claims(), mine))
    assert "/evil" not in authority.asked


async def test_a_key_of_one_kind_checks_nothing_that_names_another(authority, who):
    authority.rotate("k1", RSA)
    elliptic = ECKey.generate_key("P-256", auto_kid=False)
    with pytest.raises(Unauthenticated, match="no key of its issuer"):
        await who(signed({"alg": "ES256", "kid": "k1", "typ": "JWT"}, authority.claims(), elliptic))


async def test_only_the_exact_issuer_is_an_issuer(authority, who):
    for issuer in (
        f"{authority.url}/",
        authority.url.upper(),
        f"{authority.url}.evil.example",
        f"{authority.url}@evil.example",
        authority.url[:-1],
        "",
        None,
        [authority.url],
    ):
        with pytest.raises(Unauthenticated):
            await who(authority.token(iss=issuer))
    assert authority.asked == []


async def test_one_issuer_cannot_speak_for_another(authority, make):
    """Its own keys prove its own tokens, whatever `iss` these claim."""
    other = type(authority)(url=authority.url, keys={"k9": ECKey.generate_key("P-256", auto_kid=False)})
    chain = make({"issuers": [{"issuer": authority.url}, {"issuer": "https://other.example"}]})
    with pytest.raises(Unauthenticated, match="no key of its issuer"):
        await chain.authenticate(Credentials(bearer=other.token(), resource="/mcp"))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"%s","sub":"ann","sub":"root","aud":"https://mesh.example","exp":1900000600}',
        b'{"iss":"%s","sub":"ann","aud":"https://mesh.example","exp":1,"exp":1900000600}',
        b'{"iss":"https://evil.example","iss":"%s","sub":"ann","aud":"https://mesh.example","exp":1900000600}',
        b'{"iss":"%s","act":{"sub":"a","sub":"b"},"sub":"ann","aud":"https://mesh.example","exp":1900000600}',
    ],
)
async def test_a_name_that_comes_twice_is_read_by_nobody(authority, who, payload):
    key = authority.keys["k1"]
    with pytest.raises(Unauthenticated, match="twice"):
        await who(signed({"alg": "ES256", "kid": "k1"}, payload % authority.url.encode(), key))


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "a.b.c",
        "e30.e30.",
        ".".join(["e30"] * 5),
        "\udcff.\udcff.x",
        "ey" + "J" * 20_000 + ".e30.x",
        f"{encoded({'alg': 'ES256', 'kid': 'k1'})}.{encoded(b'[' * 100_00)}.AAAA",
        f"{encoded({'alg': 'ES256', 'kid': 'k1'})}.{encoded(b'7')}.AAAA",
        f"{encoded({'alg': 'ES256', 'kid': 'k1'})}=.e30.AAAA",
        f"{encoded({'alg': 'ES256', 'kid': 'k1'})}.e30.AA+/",
        f"{encoded({'alg': 'ES256', 'kid': 'k1'})}.{encoded(b'1' + b'0' * 8000)}.AAAA",
    ],
)
async def test_what_is_no_token_is_refused_quietly(authority, who, text):
    with pytest.raises(Unauthenticated):
        await who(text)
    assert authority.asked == []


async def test_a_signature_has_one_form_only(authority, who):
    """Else one token would be many to whoever counts or revokes them by digest."""
    token = authority.token()
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = last.index(token[-1])
    spare = token[:-1] + last[at ^ 1]
    assert base64.urlsafe_b64decode(spare.split(".")[2] + "==") == base64.urlsafe_b64decode(token.split(".")[2] + "==")
    with pytest.raises(Unauthenticated, match="canonical"):
        await who(spare)


async def test_a_token_that_is_bound_to_a_certificate_needs_that_certificate(authority, who):
    certificate = b"der of a certificate"
    print_ = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
    token = authority.token(cnf={"x5t#S256": print_})
    assert (await who(token, certificate=certificate)).subject == "ann"
    for shown in (b"", b"another"):
        with pytest.raises(Unauthenticated, match="bound to a client certificate"):
            await who(token, certificate=shown)


async def test_every_scope_that_is_missing_is_named_at_once(authority, who):
    with pytest.raises(ScopeRequired) as e:
        await who(authority.token(scope="b"), required_scopes=["a", "b", "c"])
    assert e.value.data["scopes"] == ["a", "c"]
    assert (await who(authority.token(scope="c b a"), required_scopes=["a", "b", "c"])).scopes == ("c", "b", "a")


async def test_claims_are_read_where_the_issuer_puts_them(authority, who):
    token = authority.token(oid="o-7", tid="acme", roles=["r"], scp=["s"])
    config = {"claims": {"subject": "oid", "tenant": "tid", "groups": "roles", "scopes": "scp"}, "kind": "service"}
    principal = await who(token, **config)
    assert (principal.subject, principal.tenant, principal.groups) == ("o-7", "acme", ("r",))
    assert (principal.scopes, principal.kind) == (("s",), "service")


async def test_claims_are_found_within_objects_and_under_names_with_dots(authority, who):
    token = authority.token(**{"realm_access": {"roles": ["r"]}, "https://x.example/tenant": "acme"})
    config = {"claims": {"groups": "realm_access.roles", "tenant": "https://x.example/tenant"}}
    principal = await who(token, **config)
    assert (principal.groups, principal.tenant) == (("r",), "acme")
    lacking = authority.token(**{"realm_access": "r", "https://x.example/tenant": "acme"})
    assert (await who(lacking, **config)).groups == ()


async def test_a_token_of_no_tenant_is_not_believed_where_the_issuer_is_to_name_one(authority, who):
    """Who is of no tenant is nobody's alone, and with the scope `operator` operates the whole mesh."""
    for lacking in (authority.token(), authority.token(tid=""), authority.token(tid=7)):
        with pytest.raises(Unauthenticated, match="'tid'"):
            await who(lacking, claims={"tenant": "tid"})


async def test_a_token_cannot_leave_the_tenant_of_its_issuer(authority, who):
    assert (await who(authority.token(), tenant="acme")).tenant == "acme"
    with pytest.raises(Unauthenticated, match="another tenant"):
        await who(authority.token(tid="evil"), tenant="acme", claims={"tenant": "tid"})


async def test_a_token_is_proved_once_in_ten_minutes_and_believed_until_it_ends(authority, who, clock):
    token = authority.token()
    first = await who(token)
    authority.broken = True
    assert await who(token) is first
    clock.now_s += PROVED_S - 1
    assert await who(token) is first
    clock.now_s += 30
    assert await who(token) == first
    clock.now_s += 1
    with pytest.raises(Unauthenticated):
        await who(token)


def test_no_secret_shows_in_what_is_printed(authority):
    token = authority.token()
    shown = repr(Credentials(bearer=token, basic="ann:secret", api_key="key", certificate=b"der"))
    assert token not in shown
    assert "secret" not in shown
    assert "key=" not in shown


def test_a_weak_key_of_an_issuer_is_left_aside():
    with pytest.raises(Invalid, match="1024 bits"):
        keys_of({"keys": [WEAK]})
    for jwk in (
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        7,
    ):
        with pytest.raises(Invalid):
            keys_of({"keys": [jwk]})
    good = {**RSA.as_dict(private=False), "kid": "k"}
    assert len(keys_of({"keys": [{"kty": "oct", "k": "x"}, good, {**good, "use": "enc"}]})) == 1


WEAK = {
    "kty": "RSA",
    "e": "AQAB",
    "n": base64.urlsafe_b64encode(((1 << 1023) | 1).to_bytes(128, "big")).rstrip(b"=").decode(),
}
