"""Both view stores under one contract, and what only a disk can suffer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from federation import epochs
from federation.events import Save
from federation.memory import MemoryViewStore
from federation.ports import SavedView, ViewStore
from federation.store import FILE, SqliteViewStore
from proto.errors import Invalid, Unavailable
from proto.names import NodeId
from proto.records import Kind, Record, Version

INSTANCE = b"instance" * 2
A, B = NodeId.of("mesh.test", "eu", "a"), NodeId.of("mesh.test", "us", "b")
X, Y = (Record.of(Kind.TOOL, f"srv/{n}", {"name": n, "text": "é\n"}) for n in "xy")


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ViewStore]:
    made: ViewStore = MemoryViewStore() if request.param == "memory" else SqliteViewStore(tmp_path / "data")
    made.open()
    yield made
    made.close()


def test_an_epoch_is_the_clock_or_beyond_the_last(store: ViewStore) -> None:
    assert store.begin_epoch(1_000, INSTANCE) == 1_000
    assert store.begin_epoch(500, INSTANCE) == epochs.beyond(1_000, INSTANCE)
    store.raise_epoch(5_000_000)
    store.raise_epoch(4_000_000)
    assert store.begin_epoch(2_000, INSTANCE) == epochs.beyond(5_000_000, INSTANCE)


def test_cursor_and_records_are_saved_together_and_come_back_together(store: ViewStore) -> None:
    store.save({A: Save(Version(5, 2), b"i" * 16, True, {X.key: X, Y.key: Y})}, 77)
    store.save({A: Save(Version(5, 3), b"i" * 16, True, {}, frozenset({X.key}))}, 88)
    assert list(store.views()) == [SavedView(A, Version(5, 3), b"i" * 16, True, 88, {Y.key: Y})]


def test_views_of_owners_are_apart(store: ViewStore) -> None:
    store.save({A: Save(Version(5, 1), b"i", True, {X.key: X}), B: Save(Version(9, 4), b"j", False, {X.key: X})}, 1)
    store.forget(A)
    store.heard([A, B], 99)
    assert list(store.views()) == [SavedView(B, Version(9, 4), b"j", False, 99, {X.key: X})]


def test_the_latest_body_of_a_record_replaces_the_one_before(store: ViewStore) -> None:
    newer = Record.of(Kind.TOOL, X.id, {"name": "x", "new": True})
    store.save({A: Save(Version(5, 1), b"i", True, {X.key: X})}, 1)
    store.save({A: Save(Version(5, 2), b"i", True, {newer.key: newer})}, 1)
    assert store.views()[0].records == {newer.key: newer}


def test_merged_saves_equal_the_saves_one_after_the_other(store: ViewStore) -> None:
    first = Save(Version(5, 1), b"i", True, {X.key: X, Y.key: Y})
    second = Save(Version(5, 2), b"i", True, {}, frozenset({X.key}))
    third = Save(Version(5, 3), b"i", True, {X.key: X}, frozenset({Y.key}))
    store.save({A: first.then(second).then(third)}, 1)
    for change in (first, second, third):
        store.save({B: change}, 1)
    a, b = sorted(store.views(), key=lambda v: v.owner)
    assert (a.version, a.records) == (b.version, b.records) == (Version(5, 3), {X.key: X})


def test_what_was_saved_survives_a_new_process(tmp_path: Path) -> None:
    for seq in (1, 2):
        store = SqliteViewStore(tmp_path)
        store.open()
        assert len(store.views()) == seq - 1
        store.save({A: Save(Version(5, seq), b"i", True, {X.key: X})}, 1)
        store.close()


def test_a_failure_within_a_transaction_leaves_all_of_it_out(tmp_path: Path) -> None:
    store = SqliteViewStore(tmp_path)
    store.open()
    store.save({A: Save(Version(5, 1), b"i", True, {X.key: X})}, 1)
    beyond = Save(Version(1 << 64, 2), b"i", True, {Y.key: Y}, frozenset({X.key}))
    with pytest.raises((OverflowError, Unavailable)):
        store.save({A: beyond}, 1)
    assert store.views()[0].records == {X.key: X}
    store.close()


def test_a_second_process_on_the_same_folder_is_told_so(tmp_path: Path) -> None:
    first, second = SqliteViewStore(tmp_path), SqliteViewStore(tmp_path)
    first.open()
    with pytest.raises(Unavailable, match="a data_dir of its own"):
        second.open()
    first.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 500)
    store = SqliteViewStore(tmp_path)
    store.open()
    assert store.begin_epoch(7, INSTANCE) == 7
    store.close()
    assert (tmp_path / FILE).with_suffix(".damaged").read_bytes().startswith(b"this is no")


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Invalid, match="newer release"):
        SqliteViewStore(tmp_path).open()
    assert (tmp_path / FILE).exists()


def test_a_record_of_a_kind_that_a_newer_release_wrote_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteViewStore(tmp_path)
    store.open()
    store.save({A: Save(Version(5, 1), b"i", True, {X.key: X, Y.key: Y})}, 1)
    store.close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE records SET kind = 'prophecy' WHERE id = ?", (Y.id,))
    db.close()
    store.open()
    assert store.views()[0].records == {X.key: X}
    assert "{'prophecy': 1}" in caplog.text
    store.close()
