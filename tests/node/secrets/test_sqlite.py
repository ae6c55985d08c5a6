"""The store on disk: who may read it, what a change without the key does, and a change of keys under a running node."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.secrets import sqlite
from node.secrets.keys import KEY_BYTES, new_key, parsed_key
from node.secrets.sqlite import SqliteSecrets
from proto.errors import Unavailable

Made = Callable[..., SqliteSecrets]
OLD, NEW = parsed_key(new_key()), parsed_key(new_key())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secrets.db"


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes stores, and closes them in the end."""
    stores: list[SqliteSecrets] = []

    def make(file: Path, key: bytes, old_key: bytes | None = None) -> SqliteSecrets:
        stores.append(SqliteSecrets(file, key, old_key))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def rows(file: Path) -> dict[str, tuple[int, bytes]]:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        return {name: (version, sealed) for name, version, sealed in db.execute("SELECT * FROM secrets")}


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute(statement, values)


def test_nothing_of_a_value_is_on_disk_and_only_the_owner_reads_the_file(made: Made, file: Path) -> None:
    os.umask(0o022)
    store = made(file, NEW)
    store.set("a", "correct-horse-battery")
    store.set("a", "staple-horse-battery")
    store.remove("a")
    store.set("b", "correct-horse-battery")
    store.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for left in file.parent.iterdir():
        assert b"horse" not in left.read_bytes()


def test_the_same_value_is_never_sealed_alike(made: Made, file: Path) -> None:
    store = made(file, NEW)
    store.set("a", "same")
    store.set("b", "same")
    first = rows(file)
    store.set("a", "same")
    assert len({first["a"][1], first["b"][1], rows(file)["a"][1]}) == 3


def test_a_changed_value_is_refused_by_name(made: Made, file: Path) -> None:
    store = made(file, NEW)
    store.set("a", "one")
    store.set("b", "two")
    sealed = rows(file)["a"][1]
    change(file, "UPDATE secrets SET sealed = ? WHERE name = 'a'", sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(Unavailable, match=r"secret 'a' does not open: .* was changed without the key"):
        store.get("a")
    assert store.get("b") == "two"
    assert store.verify() == ["a"]


def test_swapped_values_are_refused(made: Made, file: Path) -> None:
    store = made(file, NEW)
    store.set("alice", "hers")
    store.set("bob", "his")
    found = rows(file)
    change(file, "UPDATE secrets SET sealed = ? WHERE name = 'alice'", found["bob"][1])
    change(file, "UPDATE secrets SET sealed = ? WHERE name = 'bob'", found["alice"][1])
    assert store.verify() == ["alice", "bob"]


def test_an_earlier_value_under_the_present_version_is_refused(made: Made, file: Path) -> None:
    store = made(file, NEW)
    store.set("a", "stolen")
    before = rows(file)["a"]
    store.set("a", "replaced")
    change(file, "UPDATE secrets SET sealed = ? WHERE name = 'a'", before[1])
    assert store.verify() == ["a"]


@pytest.mark.parametrize("sealed", [b"", b"x" * 11, b"x" * 12, b"x" * 40])
def test_a_value_too_short_to_be_one_is_refused(made: Made, file: Path, sealed: bytes) -> None:
    store = made(file, NEW)
    store.set("a", "one")
    change(file, "UPDATE secrets SET sealed = ?", sealed)
    with pytest.raises(Unavailable, match="does not open") as refused:
        store.get("a")
    # Callers are told it, too.
    assert str(file.parent) not in refused.value.message


def test_another_key_opens_nothing_and_the_message_says_what_to_do(made: Made, file: Path) -> None:
    made(file, OLD).set("a", "one")
    with pytest.raises(
        Unavailable, match=r"^secrets\.db is encrypted under another key than secrets\.key; .*secrets\.old_key"
    ):
        made(file, NEW).get("a")


def test_keys_are_changed_under_a_node_that_runs_on(made: Made, file: Path) -> None:
    made(file, OLD).set("a", "one")
    node, verb = made(file, NEW, OLD), made(file, NEW, OLD)
    assert (node.get("a"), node.rotated) == ("one", False)
    node.set("b", "two")
    assert verb.rotate() == 2
    assert (node.get("a"), node.get("b"), node.rotated) == ("one", "two", True)
    node.set("c", "three")
    with pytest.raises(Unavailable):
        made(file, OLD).get("c")
    only_new = made(file, NEW)
    assert [only_new.get(name) for name in only_new.names()] == ["one", "two", "three"]


def test_a_rotation_that_cannot_open_everything_changes_nothing(made: Made, file: Path) -> None:
    store = made(file, OLD)
    for name in ("a", "b", "c"):
        store.set(name, name)
    change(file, "UPDATE secrets SET sealed = x'00' WHERE name = 'b'")
    before = rows(file)
    both = made(file, NEW, OLD)
    with pytest.raises(Unavailable, match="'b' does not open"):
        both.rotate()
    assert rows(file) == before
    assert both.get("a") == "a"


def test_reading_makes_no_file(made: Made, file: Path) -> None:
    assert made(file, NEW).names() == []
    assert not file.exists()


def test_a_directory_that_cannot_be_used_is_named(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        made(tmp_path / "file" / "secrets.db", NEW).set("a", "one")


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (b"\0" * KEY_BYTES, "is not random"),
        (bytes(range(KEY_BYTES)), "is not random"),
        (b"change-me-change-me-change-me-12", "is not random"),
        (os.urandom(KEY_BYTES - 1), "holds 31 bytes"),
        (os.urandom(KEY_BYTES + 1), "holds 33 bytes"),
    ],
    # Random bytes differ from process to process, and tests are told apart by what they are called.
    ids=["zeros", "counted up", "a phrase", "too short", "too long"],
)
def test_a_key_that_can_be_guessed_is_refused(key: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as e:
        parsed_key(base64.b64encode(key).decode())
    assert "toolmesh secrets key" in str(e.value)


def test_text_that_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="is not base64"):
        parsed_key("hunter2!")


def test_new_keys_are_taken() -> None:
    assert len({parsed_key(new_key()) for _ in range(50)}) == 50


def test_a_write_that_a_reader_keeps_from_its_end_leaves_the_store_usable(
    made: Made, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.01)
    store = made(file, NEW)
    store.set("a", "first")
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM secrets").fetchone()
        with pytest.raises(Unavailable, match="locked"):
            store.set("a", "second")
        assert store.get("a") == "first"
    store.set("a", "third")
    assert store.get("a") == "third"
