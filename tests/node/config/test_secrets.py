from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]
SECRET = "correct-horse-battery-staple"


def test_a_secret_comes_from_text_file_or_environment(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("UPSTREAM_TOKEN", SECRET)
    config = load_text(
        "servers:\n"
        "  a: {url: 'https://a.example.org/mcp', headers: {A: plain, B: {file: token}, C: {env: UPSTREAM_TOKEN}}}\n"
        "  b: {command: [x], env: {PORT: 8080}}\n"
    )
    assert config.servers["a"].to_spec("a").headers == {"A": "plain", "B": SECRET, "C": SECRET}
    assert config.servers["b"].to_spec("b").env == {"PORT": "8080"}


def test_no_secret_is_ever_shown(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    config = load_text(
        f"servers: {{a: {{command: [x], env: {{TOKEN: {SECRET}}}}}}}\nauth: {{keys: [{{name: k, file: key}}]}}\n"
    )
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    for shown in (repr(config), str(config), repr(config.servers["a"]), config.model_dump_json()):
        assert SECRET not in shown
    assert digest not in repr(config)


def test_an_error_beside_a_secret_does_not_show_it(refused: Refused) -> None:
    lines = refused(f"servers: {{a: {{command: [x], env: {{'A=B': {SECRET}, C: [{SECRET}]}}, title: 7}}}}\n")
    assert lines
    assert SECRET not in "\n".join(lines)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{file: nowhere}", "cannot be read: No such file"),
        ("{file: empty}", "is empty"),
        ("{file: binary}", "is not UTF-8"),
        ("{file: huge}", "is larger than"),
        ("{env: NOT_SET_ANYWHERE}", "environment variable NOT_SET_ANYWHERE is not set"),
        ("{fil: x}", "must be text"),
        ("true", "must be text"),
        ("1.10", "must be text"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(refused: Refused, tmp_path: Path, value: str, problem: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    (line,) = refused(f"servers: {{a: {{command: [x], env: {{T: {value}}}}}}}\n")
    assert line.startswith("node.yaml:1: servers.a.env.T: ")
    assert problem in line


def test_a_key_is_kept_as_its_digest_whatever_its_source(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{SECRET}-file\n")
    monkeypatch.setenv("A_KEY", f"{SECRET}-env")
    third = hashlib.sha256(f"{SECRET}-hex".encode()).hexdigest().upper()
    config = load_text(
        f"auth: {{keys: [{{name: a, file: key}}, {{name: b, env: A_KEY}}, {{name: c, sha256: '{third}'}}]}}\n"
    )
    expected = [hashlib.sha256(f"{SECRET}-{how}".encode()).digest() for how in ("file", "env", "hex")]
    assert [k.digest for k in config.auth.keys] == expected


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{name: a}", "needs exactly one of sha256, file and env; found none"),
        ("{name: a, env: X, file: y}", "found file and env"),
        ("{name: a, sha256: abc}", "is not a SHA-256 in hex"),
        ("{name: a, file: short}", "shorter than 20 characters"),
        ("{name: a, sha: abc}", "did you mean 'sha256'?"),
        ("{name: 'a b', sha256: abc}", "may hold only characters"),
        ("just-text", "must be a mapping of keys, not a string"),
    ],
)
def test_a_bad_key_entry_is_refused(refused: Refused, tmp_path: Path, entry: str, problem: str) -> None:
    (tmp_path / "short").write_text("hunter2")
    lines = refused(f"auth: {{keys: [{entry}]}}\n")
    assert any(problem in line and "auth.keys[0]" in line for line in lines)
