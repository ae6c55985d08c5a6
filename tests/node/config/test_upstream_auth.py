"""`servers.X.auth`: what is taken, what is refused with a mend, and that its keys are documented."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node.config import NodeConfig
from node.settings.upstream_auth import ClientCredentialsAuth, TokenExchangeAuth
from node.verbs.checks import inspect
from tests.node.credentials.conftest import PEM

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]
OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
URL = "https://a.example.org/mcp"


def server(auth: str, more: str = "", url: str = URL) -> str:
    return f"servers:\n  a:\n    url: {url}\n    auth: {{{auth}}}\n{more}"


@pytest.fixture(autouse=True)
def keys(tmp_path: Path) -> None:
    (tmp_path / "good.pem").write_text(PEM)
    (tmp_path / "bad.pem").write_text("hunter2-is-no-key")
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - refused below
    (tmp_path / "small.pem").write_bytes(
        small.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@pytest.mark.parametrize(
    "auth",
    [
        "kind: client_credentials, client_id: n, client_secret: s3cret-value, issuer: 'https://idp.example.org'",
        "kind: client_credentials, client_id: n, client_key: {file: good.pem}, client_auth: private_key_jwt",
        "kind: token_exchange, client_id: n, client_key: {file: good.pem}, assertion_key: {file: good.pem}",
        "kind: token_exchange, client_id: n, subject: token, token_url: https://idp.example.org/token",
        "kind: client_credentials, client_id: n, client_secret: s, token_url: 'http://127.0.0.1:9000/token'",
    ],
)
def test_a_way_to_sign_in_is_taken_and_never_shown(load_text: Load, auth: str) -> None:
    config = load_text(server(auth))
    shown = repr(config) + config.model_dump_json()
    assert "s3cret-value" not in shown
    assert PEM.splitlines()[1] not in shown


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ("kind: password", "auth: needs a 'kind', one of client_credentials"),
        ("client_id: n", "auth: needs a 'kind'"),
        ("kind: client_credentials", "auth.client_id: is required"),
        ("kind: client_credentials, client_id: n", "needs 'client_secret' or 'client_key'"),
        ("kind: client_credentials, client_id: n, client_secret: s, client_key: {file: good.pem}", "both given"),
        ("kind: client_credentials, client_id: n, client_key: {file: bad.pem}", "'client_key' is not a private key"),
        ("kind: client_credentials, client_id: n, client_key: {file: small.pem}", "RSA of 2048 bits or more"),
        (
            "kind: client_credentials, client_id: n, client_secret: s, client_auth: private_key_jwt",
            "needs 'client_key'",
        ),
        (
            "kind: client_credentials, client_id: n, client_secret: s, token_url: http://idp.example/t",
            "not an https://",
        ),
        ("kind: client_credentials, client_id: n, client_secret: s, issuer: ftp://idp.example", "not an https://"),
        ("kind: client_credentials, client_id: n, client_sekret: s", "did you mean 'client_secret'?"),
        ("kind: client_credentials, client_id: n, client_secret: s", "is for one authorization server: say which"),
        ("kind: token_exchange, client_id: n, subject: token", "gives callers' tokens to one authorization server"),
        ("kind: token_exchange, client_id: n", "needs 'assertion_key'"),
        (
            "kind: token_exchange, client_id: n, assertion_key: {file: good.pem}, assertion_audience: https://i.example",
            "say who is given it, by 'issuer' or 'token_url'",
        ),
        ("kind: token_exchange, client_id: n, subject: token, assertion_key: {file: good.pem}", "would have no effect"),
        (
            "kind: token_exchange, client_id: n, subject: token, issuer: https://i.example, listing: node",
            "with 'subject: token' it is 'client'",
        ),
    ],
)
def test_a_way_that_cannot_work_or_is_not_safe_is_refused(refused: Refused, auth: str, problem: str) -> None:
    lines = refused(server(auth))
    assert any(problem in line and "servers.a.auth" in line for line in lines), lines
    assert "hunter2" not in "".join(lines)


GOOD = "kind: token_exchange, client_id: n, subject: token, issuer: https://idp.example.org"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (server(GOOD, "    headers: {authorization: x}\n"), "'headers' has an Authorization that 'auth' would replace"),
        (server(GOOD, "    sessions: shared\n"), "which tells callers apart"),
        (server(GOOD, "    sessions_max: 0\n"), "each caller has its own session"),
        (server(GOOD, url="http://a.example.org/mcp"), "a connection without TLS"),
        (server(GOOD, url="ws://a.example.org/mcp"), "a connection without TLS"),
        (f"servers: {{a: {{command: [x], auth: {{{GOOD}}}}}}}\n", "'auth' is for a 'url'"),
        (server("kind: authorization_code"), "secrets.key: is missing: what people agree to for 'a'"),
    ],
)
def test_what_does_not_go_with_it_is_refused(refused: Refused, text: str, problem: str) -> None:
    assert any(problem in line for line in refused(text)), refused(text)


def test_a_check_says_how_each_server_is_signed_in_to(load_text: Load) -> None:
    config = load_text(server(GOOD))
    assert inspect(config).servers == [("a", URL, "signs in by token_exchange")]


def test_every_key_of_it_is_documented() -> None:
    section = OPERATIONS.split("#### Signing in to a server\n", 1)[1].split("\n####", 1)[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    told = {key for row in rows for key in re.findall(r"`([a-z_]+)`", row)}
    assert told == {*ClientCredentialsAuth.model_fields, *TokenExchangeAuth.model_fields}
