"""What `toolmesh check` refuses, and what it warns of, where doors were left open."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import load
from node.settings.weak import weak_digest, weakness
from node.verbs.checks import Report, inspect
from proto.errors import Invalid


@pytest.fixture
def checked(tmp_path: Path) -> Any:
    def check(text: str) -> Report:
        file = tmp_path / "node.yaml"
        file.write_text(text)
        return inspect(load(file), file=file)

    return check


@pytest.mark.parametrize(
    "secret",
    ["", "changeme", "changeme-changeme-changeme", "your-api-key-goes-here", "a" * 40, "abcdefghijklmnopqrstuvwxyz",
     "01234567890123456789", "password1234567890123", "SuperSecretPassword2024", "test-test-test-test-test-1",
     "deadbeefdeadbeefdeadbeefdeadbeef", "secret-token-for-testing", "qwertyuiopasdfghjklzxcvbnm",
     "zyxwvutsrqponmlkjihg"],
)  # fmt: skip
def test_secrets_that_come_with_documentation_or_a_keyboard_are_weak(secret: str) -> None:
    assert weakness(secret)


@given(st.binary(min_size=16, max_size=48))
def test_whether_a_secret_is_weak_can_always_be_said(seed: bytes) -> None:
    digest = hashlib.sha256(seed).hexdigest()
    assert weakness(digest) == ""
    assert weakness(f"tm_ci_{digest}") == ""


def test_what_the_verbs_make_is_strong() -> None:
    assert not any(weakness(secrets.token_urlsafe(32)) for _ in range(1_000))


def test_a_digest_of_a_known_word_is_found(checked: Any) -> None:
    digest = hashlib.sha256(b"changeme").hexdigest()
    assert weak_digest(digest.upper())
    assert not weak_digest(hashlib.sha256(secrets.token_bytes()).hexdigest())
    with pytest.raises(Invalid, match="is that of a word"):
        checked(f"auth: {{keys: [{{name: a, sha256: '{digest}'}}]}}")


def test_a_node_does_not_start_with_a_key_that_can_be_guessed(checked: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("changeme-changeme-changeme\n")
    with pytest.raises(Invalid, match="software and documentation come with; 'toolmesh key new' makes one"):
        checked("auth: {keys: [{name: a, file: key}]}")


def test_a_file_with_a_secret_that_everybody_may_read_is_a_problem(checked: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(secrets.token_urlsafe(32))
    (tmp_path / "token").write_text("t")
    text = (
        "auth: {keys: [{name: a, file: key}]}\n"
        "servers: {a: {url: 'https://mcp.example.org', headers: {Authorization: {file: token}}}}\n"
    )
    for name in ("key", "token"):
        (tmp_path / name).chmod(0o600)
    assert checked(text).problems == []
    (tmp_path / "token").chmod(0o640)
    report = checked(text)
    assert report.problems == []
    assert [w for w in report.warnings if "servers.a.headers.Authorization" in w]
    for name in ("key", "token"):
        (tmp_path / name).chmod(0o644)
    first, second = checked(text).problems
    assert first.startswith("auth.keys[0]: ")
    assert second.startswith("servers.a.headers.Authorization: ")


@pytest.mark.parametrize(
    ("addresses", "wrong"),
    [
        ("deny: [0.0.0.0/0]", "deny holds every address"),
        ("deny: ['::/0']", "deny holds every address"),
        ("allow: [10.0.0.0/8], deny: [10.0.0.0/7]", "covers all of http.addresses.allow"),
    ],
)
def test_doors_that_nobody_can_enter_are_a_problem(checked: Any, addresses: str, wrong: str) -> None:
    (problem,) = checked(f"http: {{addresses: {{{addresses}}}}}").problems
    assert wrong in problem


def test_shutting_this_machine_out_is_a_warning(checked: Any) -> None:
    report = checked("http: {addresses: {allow: [10.0.0.0/8]}}")
    assert report.problems == []
    assert any("shuts this machine out" in w for w in report.warnings)
    assert checked("http: {addresses: {allow: [10.0.0.0/8, 127.0.0.0/8, '::1']}}").warnings == []


def test_a_proxy_that_is_not_named_is_a_warning(checked: Any) -> None:
    warnings = checked("http: {listen: '0.0.0.0:7400', insecure_beyond_loopback: true}").warnings
    assert any("http.allowed_hosts and http.public_url are empty" in w for w in warnings)
    assert any("http.trusted_proxies is empty" in w for w in warnings)
    mended = "allowed_hosts: [gw.example.org], trusted_proxies: [10.0.0.1]"
    warnings = checked(f"http: {{listen: '0.0.0.0:7400', insecure_beyond_loopback: true, {mended}}}").warnings
    assert [w for w in warnings if "allowed_hosts" in w or "trusted_proxies" in w] == []


def test_a_proxy_on_this_machine_that_is_not_named_is_a_warning(checked: Any) -> None:
    behind = "http: {public_url: 'https://gw.example.org'%s}\n"
    assert any("counts as this machine's own" in w for w in checked(behind % "").warnings)
    assert checked(behind % ", trusted_proxies: ['127.0.0.1']").warnings == []
    assert checked(behind % "" + "limits: {address: {loopback: true}}").warnings == []


def test_a_catalogue_entry_that_could_not_be_dialled_is_a_problem(checked: Any) -> None:
    entry = "catalogue: {inside: {url: 'http://169.254.169.254/latest'}}\n"
    (problem,) = checked(entry).problems
    assert problem.startswith("catalogue.inside.url 'http://169.254.169.254/latest' may not be dialled: ")
    assert checked(entry + "outbound: {allow: [169.254.169.254]}").problems == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("http: {listen: '0.0.0.0:7400'}", "is reachable from other machines"),
        ("http: {allowed_origins: ['*']}", "is not an origin"),
        ("http: {allowed_hosts: ['*']}", "is not a host name"),
        ("http: {allowed_hosts: ['https://gw.example.org']}", "is not a host name"),
        ("http: {trusted_proxies: ['0.0.0.0/0']}", "is everybody"),
        ("http: {addresses: {allow: ['10.0.0.1/8']}}", "has host bits set; write a network"),
        ("http: {connections_max: 10}", "is more than http.connections_max"),
        ("outbound: {allow: ['*']}", "neither a network nor a host"),
        ("limits: {principal: {burst: 3}}", "a burst and no rate"),
    ],
)
def test_what_opens_more_than_was_meant_is_refused(checked: Any, text: str, wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(text)
    assert wrong in caught.value.message
