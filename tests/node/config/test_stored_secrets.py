"""`{store: NAME}` in a configuration, and the section that says where the store is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig
from node.secrets.keys import new_key, parsed_key
from node.secrets.sqlite import SqliteSecrets

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]
SECTION = "node: {data_dir: kept}\nsecrets: {key: {file: key}}\n"
USES = "servers: {a: {url: 'https://a.example.org/mcp', headers: {X-Token: {store: a/token}}}}\n"


@pytest.fixture
def key(tmp_path: Path) -> bytes:
    text = new_key()
    (tmp_path / "key").write_text(f"{text}\n")
    (tmp_path / "key").chmod(0o600)
    return parsed_key(text)


def test_a_secret_of_the_store_is_put_where_it_is_named(load_text: Load, tmp_path: Path, key: bytes) -> None:
    store = SqliteSecrets(tmp_path / "kept" / "secrets.db", key)
    store.set("a/token", "s3cret-value")
    store.close()
    config = load_text(SECTION + USES)
    assert config.servers["a"].to_spec("a").headers == {"X-Token": "s3cret-value"}
    assert "s3cret-value" not in repr(config) + config.model_dump_json()


def test_a_missing_secret_is_named_with_its_place_and_nothing_is_made(
    refused: Refused, tmp_path: Path, key: bytes
) -> None:
    (line,) = refused(SECTION + USES)
    assert line.startswith("node.yaml:3: servers.a.headers.X-Token: no secret is named 'a/token'; 'toolmesh secrets")
    assert not (tmp_path / "kept").exists()


def test_without_a_key_there_is_no_store(refused: Refused) -> None:
    (line,) = refused(USES)
    assert "this node has no store of secrets; give secrets.key" in line


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("secrets: {key: plain}", "a key does not stand in a configuration"),
        ("secrets: {key: {store: x}}", "must be {file: PATH} or {env: VARIABLE}"),
        ("secrets: {key: {file: weak}}", "holds 6 bytes"),
        ("secrets: {key: {file: open}}", "can be read or changed by others; 'chmod 600' it"),
        ("secrets: {old_key: {file: key}}", "give the new one as 'key'"),
        ("secrets: {key: {file: key}, old_key: {file: key}}", "is the same as 'key'"),
    ],
)
def test_a_store_that_would_not_be_safe_is_refused(
    refused: Refused, tmp_path: Path, key: bytes, section: str, problem: str
) -> None:
    (tmp_path / "weak").write_text("password")
    (tmp_path / "weak").chmod(0o600)
    (tmp_path / "open").write_text(new_key())
    (tmp_path / "open").chmod(0o644)
    assert any(problem in line for line in refused(section + "\n"))


def test_the_key_may_be_in_the_environment(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    monkeypatch.setenv("STORE_KEY", (tmp_path / "key").read_text())
    store = SqliteSecrets(tmp_path / "kept" / "secrets.db", key)
    store.set("a/token", "s3cret-value")
    store.close()
    config = load_text("node: {data_dir: kept}\nsecrets: {key: {env: STORE_KEY}}\n" + USES)
    assert config.servers["a"].to_spec("a").headers == {"X-Token": "s3cret-value"}
