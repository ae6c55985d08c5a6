"""Whatever strangers send: an answer of our own kind, and never somebody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from node.identity.choose import authenticator_of
from node.identity.claims import verified
from node.identity.jose import looks_signed, parse
from node.identity.jwks import keys_of
from node.ports import Credentials
from node.settings.auth import AuthSection
from node.settings.issuers import IssuerConfig
from proto.errors import Invalid, Unauthenticated
from tests.node.identity.conftest import NOW_S, encoded

ISSUER = IssuerConfig.model_validate({"issuer": "https://i.example", "claims": {"tenant": "tid"}})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = ("iss", "sub", "aud", "exp", "nbf", "iat", "scope", "groups", "tid", "act", "cnf", "jti", "typ", "token_type")
CLAIMS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=len(NAMES))
WELL = {"iss": "https://i.example", "sub": "ann", "aud": ["a"], "exp": int(NOW_S) + 60}


@given(CLAIMS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_claims_make_a_well_formed_caller_or_a_refusal(claims: dict[str, Any], well: bool) -> None:
    try:
        found = verified({**WELL, **claims} if well else claims, ISSUER, "token/x", NOW_S)
    except Unauthenticated:
        return
    principal = found.principal
    texts = (principal.subject, *principal.groups, *principal.scopes, *principal.actors, principal.credential)
    assert all(text and text.isprintable() for text in texts)
    assert principal.issuer == "https://i.example"
    assert principal.expires_s > NOW_S
    assert found.audiences


@given(st.text(max_size=200) | st.lists(st.binary(max_size=60).map(encoded), max_size=5).map(".".join))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_token_taken_apart_or_none(text: str) -> None:
    looks_signed(text)
    try:
        token = parse(text)
    except Invalid:
        return
    assert isinstance(token.claims, dict)


@given(JSON, JSON)
@settings(max_examples=60, deadline=None)
def test_any_header_and_payload_are_a_token_taken_apart_or_none(header: Any, payload: Any) -> None:
    head = {"alg": "ES256", **header} if isinstance(header, dict) else header
    try:
        token = parse(f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(payload).encode())}.AAAA")
    except Invalid:
        return
    assert token.algorithm == head["alg"]


@given(JSON | st.lists(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"]), JSON)))
@settings(max_examples=60, deadline=None)
def test_any_document_is_keys_or_none(keys: Any) -> None:
    try:
        found = keys_of({"keys": keys})
    except Invalid:
        return
    assert all(key.algorithms for key in found)


KEYS = {name: f"key of {name}" for name in ("ann", "ben")}
SHOWN = st.sampled_from(["", *KEYS.values(), "wrong"])


@given(SHOWN, SHOWN)
@settings(max_examples=20, deadline=None)
def test_nobody_becomes_another_by_showing_more(bearer: str, api_key: str) -> None:
    entries = [{"name": n, "sha256": hashlib.sha256(k.encode()).hexdigest()} for n, k in KEYS.items()]
    chain = authenticator_of(AuthSection.model_validate({"keys": entries}), "mesh.test")
    whose = {name for name, key in KEYS.items() if key in (bearer, api_key)}
    try:
        principal = asyncio.run(chain.authenticate(Credentials(bearer=bearer, api_key=api_key)))
    except Unauthenticated:
        assert len(whose) != 1 or "wrong" in (bearer, api_key)
    else:
        assert whose == {principal.subject}
        assert "wrong" not in (bearer, api_key)
