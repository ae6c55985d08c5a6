"""`make check` looks for secrets in the tree: it finds what it should, and nothing in honest text."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("secrets_scan", ROOT / "deploy" / "secrets_scan.py")
assert SPEC is not None
assert SPEC.loader is not None
scan = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scan)

# Put together here, so that this file holds none.
RANDOM = "Zq7xK2vB9nM4tR8wY1cL5hJ3"
PLANTED = {
    "private key": "-----BEGIN EC " + "PRIVATE KEY-----\n" + "MHcCAQEEIB" * 6,
    "toolmesh key": "tm_" + "ann_" + secrets.token_urlsafe(32),
    "AWS key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub token": "ghp_" + "a1B2c3D4e5F6" * 3,
    "Slack token": "xoxb-" + "123456789012-abcdefghij",
    "Google key": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "API key of a model": "sk-" + "proj-" + RANDOM * 2,
    "package index token": "npm_" + "a1B2c3D4e5F6" * 3,
    "signed token": ".".join(["ey" + "JhbGciOiJFUzI1NiIsInR5cCI6", "ey" + "JzdWIiOiJhbm4iLCJhdWQi", RANDOM]),
    "password in a URL": "postgres://toolmesh:" + RANDOM + "@db.example/toolmesh",
    "value of a secret": "client_secret = '" + RANDOM + "'",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_each_kind_of_secret_is_found_with_its_line_and_told_without_itself(kind: str) -> None:
    found = [f for f in scan.found_in("x.py", f"a\nb {PLANTED[kind]}\n") if f.kind == kind]
    assert [(f.path, f.line) for f in found] == [("x.py", 2)]
    assert RANDOM not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "token = 'the-token-of-somebody-else'",
        "password: ${PASSWORD}",
        "https://user:pw@example.org",
        "'Authorization: Bearer KEY'",
        "-----BEGIN CERTIFICATE-----",
        "secret = read_secret_file(where, info)",
        "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_honest_text_is_left_alone(text: str) -> None:
    assert list(scan.found_in("x.py", text)) == []


def test_every_excuse_has_a_reason_and_a_place() -> None:
    for (path, digest), reason in scan.allowed(scan.ALLOWED.read_text()).items():
        assert (ROOT / path).is_file()
        assert len(digest) == 16
        assert len(reason.split()) > 2
