"""What every store of secrets promises, the one on disk and its twin in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.secrets.keys import new_key, parsed_key
from node.secrets.memory import MemorySecrets
from node.secrets.ports import NAME_CHARS_MAX, VALUE_BYTES_MAX, SecretStore
from node.secrets.sqlite import SqliteSecrets
from proto.errors import Exhausted, Invalid, Unknown


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SecretStore]:
    file = tmp_path / "data" / "secrets.db"
    made = MemorySecrets() if request.param == "memory" else SqliteSecrets(file, parsed_key(new_key()))
    yield made
    made.close()


def test_what_is_set_is_there_until_it_is_removed(store: SecretStore) -> None:
    assert store.names() == []
    store.set("b", "first")
    store.set("b", "second")
    store.set("a/x", "größer ✓")
    assert (store.get("b"), store.get("a/x")) == ("second", "größer ✓")
    assert store.names() == ["a/x", "b"]
    assert store.names("a/") == ["a/x"]
    assert store.remove("b") is True
    assert store.remove("b") is False
    with pytest.raises(Unknown, match="no secret is named 'b'"):
        store.get("b")


@pytest.mark.parametrize("name", ["", "/x", "a b", "a\n", "ä", "x" * (NAME_CHARS_MAX + 1), "a'; DROP TABLE secrets"])
def test_a_name_that_none_can_have_is_refused(store: SecretStore, name: str) -> None:
    for act in (lambda: store.set(name, "v"), lambda: store.get(name), lambda: store.remove(name)):
        with pytest.raises(Invalid, match="cannot name a secret"):
            act()


def test_an_empty_or_huge_value_is_refused_and_not_shown(store: SecretStore) -> None:
    with pytest.raises(Invalid, match="would be empty"):
        store.set("a", "")
    with pytest.raises(Invalid) as e:
        store.set("a", "s3cret" * VALUE_BYTES_MAX)
    assert "s3cret" not in e.value.message


def test_a_full_store_takes_no_more_names_and_still_replaces(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "sqlite"):
        monkeypatch.setattr(f"node.secrets.{module}.SECRETS_MAX", 2)
    store.set("a", "1")
    store.set("b", "1")
    with pytest.raises(Exhausted):
        store.set("c", "1")
    store.set("b", "2")
    assert store.get("b") == "2"


def test_no_value_is_shown_by_repr(store: SecretStore) -> None:
    store.set("a", "s3cret")
    assert "s3cret" not in repr(store)
