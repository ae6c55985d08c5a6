"""What operators do to the store by hand is left in it, sealed, and put on record by the node when it sees it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.audit.port import NoAudit
from node.secrets import sqlite
from node.secrets.keys import new_key, parsed_key
from node.secrets.recording import ActsOnRecord
from node.secrets.sqlite import SqliteSecrets
from node.verbs.remote import Remote
from proto.errors import Exhausted
from proto.records import Principal
from tests.node.test_app import running

TEXT = new_key()
OLD, NEW = parsed_key(TEXT), parsed_key(new_key())


class Told(NoAudit):
    """Keeps (who, verb, what), and what is said of the node."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []
        self.said: list[str] = []

    def admin(self, principal: Principal, verb: str, what: str, outcome: str = "ok", **more: Any) -> None:
        self.acts.append((principal.subject, verb, what))

    def system(self, event: str, *, reason: str = "", **facts: Any) -> None:
        self.said.append(reason)


def by_hand(file: Path, key: bytes = OLD, old_key: bytes | None = None) -> SqliteSecrets:
    store = SqliteSecrets(file, key, old_key)
    store.by = "ann"
    return store


def recording(file: Path, told: Told, key: bytes = OLD, old_key: bytes | None = None) -> ActsOnRecord:
    return ActsOnRecord(file, lambda: SqliteSecrets(file, key, old_key), told)


def waiting(file: Path) -> int:
    with closing(sqlite3.connect(file)) as db:
        return int(db.execute("SELECT COUNT(*) FROM acts").fetchone()[0])


async def test_what_is_done_by_hand_is_told_once_and_then_taken_out(tmp_path: Path) -> None:
    file, told = tmp_path / "secrets.db", Told()
    acts = recording(file, told)
    await acts.look()
    assert not file.exists(), "looking makes no store"
    with closing(by_hand(file)) as store:
        store.set("a", "one")
        await acts.look()
        store.set("a", "two")
        assert store.remove("a")
        assert not store.remove("a"), "nothing was done"
    for _ in range(3):
        await acts.look()
    assert told.acts == [("ann", "secrets set", "a"), ("ann", "secrets set", "a"), ("ann", "secrets remove", "a")]
    assert waiting(file) == 0


async def test_what_a_node_that_was_killed_had_just_told_is_told_again_rather_than_never(tmp_path: Path) -> None:
    file, told = tmp_path / "secrets.db", Told()
    with closing(by_hand(file)) as store:
        store.set("a", "one")
    await recording(file, told).look()
    await recording(file, told).look()
    assert told.acts == [("ann", "secrets set", "a")] * 2


async def test_what_the_node_itself_keeps_is_no_act(tmp_path: Path) -> None:
    file, told = tmp_path / "secrets.db", Told()
    with closing(SqliteSecrets(file, OLD)) as store:
        store.set("oauth/x", "grant")
    await recording(file, told).look()
    assert (told.acts, waiting(file)) == ([], 0)


async def test_a_rotation_is_told_with_what_waited_before_it(tmp_path: Path) -> None:
    file, told = tmp_path / "secrets.db", Told()
    with closing(by_hand(file)) as store:
        store.set("a", "one")
    with closing(by_hand(file, NEW, OLD)) as store:
        store.rotate()
    await recording(file, told, NEW, OLD).look()
    assert told.acts == [("ann", "secrets set", "a"), ("ann", "secrets rotate", "all")]


async def test_an_act_that_was_written_without_the_key_is_told_as_that(tmp_path: Path) -> None:
    file, told = tmp_path / "secrets.db", Told()
    with closing(by_hand(file)) as store:
        store.set("a", "one")
        store.set("b", "one")
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        # The first in the place of the second.
        db.execute("UPDATE acts SET sealed = (SELECT sealed FROM acts WHERE id = 1) WHERE id = 2")
    await recording(file, told).look()
    assert told.acts == [("ann", "secrets set", "a")]
    assert ["act 2" in said and "without the key" in said for said in told.said] == [True]


def test_where_too_many_wait_nothing_more_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "ACTS_MAX", 2)
    with closing(by_hand(tmp_path / "secrets.db")) as store:
        store.set("a", "one")
        store.set("a", "two")
        with pytest.raises(Exhausted, match="start the node"):
            store.set("a", "three")
        assert store.get("a") == "two"


async def test_a_node_puts_on_record_what_was_done_while_it_did_not_run(tmp_path: Path) -> None:
    with closing(by_hand(tmp_path / "data" / "secrets.db")) as store:
        store.set("files/token", "s3cret-value")
    (tmp_path / "store.key").write_text(TEXT)
    (tmp_path / "store.key").chmod(0o600)
    settings = {"node": {"data_dir": "data"}, "secrets": {"key": {"file": "store.key"}}}
    async with running(settings, tmp_path) as app:
        asked = {"kind": "admin", "who": "ann", "wait_s": "10"}
        (record,) = (await Remote(app.url).get("/api/v1/audit", **asked))["records"]
    assert (record["action"], "files/token" in str(record["what"])) == ("secrets set", True)
    assert "s3cret-value" not in str(record)
