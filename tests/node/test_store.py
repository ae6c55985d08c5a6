from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import node.store
from node.store import AddedServers, MemoryAddedServers, ServerNames
from proto.errors import Exhausted, Invalid, Unavailable


@pytest.fixture(params=["sqlite", "memory"])
def added(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerNames]:
    store: ServerNames = (
        AddedServers(tmp_path / "deep" / "servers.db") if request.param == "sqlite" else MemoryAddedServers()
    )
    store.open()
    yield store
    store.close()


def test_names_come_in_the_order_in_which_they_were_added(added: ServerNames) -> None:
    assert added.names() == ()
    for name in ("time", "git", "ap-1"):
        added.add(name)
    assert added.names() == ("time", "git", "ap-1")


def test_adding_and_removing_twice_is_the_same_as_once(added: ServerNames) -> None:
    added.add("time")
    added.add("time")
    assert added.names() == ("time",)
    added.remove("time")
    added.remove("time")
    assert added.names() == ()


def test_what_is_no_server_name_is_refused(added: ServerNames) -> None:
    with pytest.raises(Invalid, match="server name"):
        added.add("Not A Name")
    assert added.names() == ()


def test_the_set_is_bounded(added: ServerNames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.store, "ADDED_MAX", 2)
    added.add("a")
    added.add("b")
    with pytest.raises(Exhausted):
        added.add("c")
    added.add("a")
    assert added.names() == ("a", "b")


def test_names_survive_a_restart_that_closed_nothing(tmp_path: Path) -> None:
    first, second = AddedServers(tmp_path / "s.db"), AddedServers(tmp_path / "s.db")
    first.open()
    first.add("time")
    second.open()
    assert second.names() == ("time",)
    first.close()
    second.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "s.db"
    file.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(Unavailable, match=r"s\.db cannot be used"):
        AddedServers(file).open()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"s\.db cannot be used"):
        AddedServers(tmp_path / "file" / "s.db").open()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unavailable, match="newer toolmesh"):
        AddedServers(tmp_path / "s.db").open()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not open"):
        AddedServers(tmp_path / "s.db").names()
