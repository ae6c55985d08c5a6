"""What any store of the audit does: the one on disk and its twin."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from node.audit.chain import Head
from node.audit.query import Query
from node.audit.rows import AuditStore, Row
from node.audit.store import SqliteAuditStore
from proto.errors import Invalid, Unavailable


def row(seq: int, **more: Any) -> Row:
    given: dict[str, Any] = {
        "seq": seq, "at_ms": seq * 1_000, "kind": "call", "who": "ana", "tenant": "acme", "server": "units",
        "tool": "convert", "outcome": "ok", "call_id": f"c{seq}", "hash": bytes([seq % 256]) * 32,
        "line": b'{"seq":%d}' % seq,
    }  # fmt: skip
    return Row(**{**given, **more})


def seqs(rows: Sequence[Row]) -> list[int]:
    return [r.seq for r in rows]


def test_a_new_store_is_empty_and_has_no_head(store: AuditStore) -> None:
    assert store.kept() == (0, 0, 0, None)
    assert store.find(Query()) == []
    assert (store.before(10**15), store.beyond(0)) == (0, 0)


def test_rows_come_back_as_they_were_given_newest_first(store: AuditStore) -> None:
    rows = [row(1), row(2, line="ü\n".encode()), row(3)]
    store.append(rows[:2])
    store.append(rows[2:])
    assert store.find(Query()) == rows[::-1]
    assert store.find(Query(oldest_first=True)) == rows
    assert store.row(2) == rows[1]
    assert store.row(4) is None


def test_what_is_kept_is_counted_with_the_breaks_of_its_lines(store: AuditStore) -> None:
    store.append([row(n) for n in range(1, 4)])
    assert store.kept() == (1, 3, 3 * len(b'{"seq":1}\n'), Head(3, bytes([3]) * 32))


FOUND = [
    ({"who": "bob"}, [4]),
    ({"server": "bank"}, [2]),
    ({"tool": "pay"}, [2]),
    ({"outcome": "ok"}, [5, 4, 2, 1]),
    ({"outcome": "forbidden"}, [3]),
    ({"kind": "call"}, [4, 3, 2, 1]),
    ({"kind": "admin"}, [5]),
    ({"call_id": "c3"}, [3]),
    ({"tenant": "acme"}, [5, 3, 2, 1]),
    ({"since_ms": 3_000}, [5, 4, 3]),
    ({"until_ms": 3_000}, [2, 1]),
    ({"since_ms": 2_500, "until_ms": 4_500}, [4, 3]),
    ({"since_ms": 99_000}, []),
    ({"after": 3}, [5, 4]),
    ({"before": 3}, [2, 1]),
    ({"before": 4, "until_ms": 3_000}, [2, 1]),
    ({"before": 2, "until_ms": 9_000}, [1]),
    ({"after": 1, "before": 5, "who": "ana"}, [3, 2]),
    ({"limit": 2}, [5, 4]),
    ({"oldest_first": True, "limit": 2}, [1, 2]),
    ({"who": "ana' OR 1=1 --"}, []),
]


@pytest.mark.parametrize(("asked", "found"), FOUND, ids=str)
def test_records_are_found_by(store: AuditStore, asked: dict[str, Any], found: list[int]) -> None:
    store.append(
        [
            row(1),
            row(2, server="bank", tool="pay"),
            row(3, outcome="forbidden"),
            row(4, who="bob", tenant=""),
            row(5, kind="admin", call_id=""),
        ]
    )
    assert seqs(store.find(Query(**asked))) == found


def test_the_oldest_are_removed_in_parts_and_the_head_stays(store: AuditStore) -> None:
    store.append([row(n) for n in range(1, 11)])
    assert [store.remove_to(6, 4), store.remove_to(6, 4), store.remove_to(6, 4)] == [4, 2, 0]
    assert store.kept() == (7, 10, 3 * 10 + 11, Head(10, bytes([10]) * 32))
    store.append([row(11)])
    assert seqs(store.find(Query())) == [11, 10, 9, 8, 7]


def test_what_is_too_old_or_too_much_is_known_by_its_last_record(store: AuditStore) -> None:
    store.append([row(n) for n in range(1, 10)])
    assert [store.before(ms) for ms in (1, 1_000, 1_001, 5_000, 5_001, 10**9)] == [0, 0, 1, 4, 5, 9]
    size = len(b'{"seq":1}\n')
    assert [store.beyond(n * size) for n in (0, 1, 3, 8, 9, 100)] == [9, 8, 6, 1, 0, 0]
    store.remove_to(4, 100)
    assert [store.beyond(n * size) for n in (1, 5, 100)] == [8, 0, 0]
    assert store.before(5_001) == 5


# ---- on disk -----------------------------------------------------------------------------------------


def test_records_outlive_a_process_that_closed_nothing(tmp_path: Path) -> None:
    first, second = SqliteAuditStore(tmp_path / "audit.db"), SqliteAuditStore(tmp_path / "audit.db")
    first.open()
    first.append([row(1)])
    second.open()
    assert seqs(second.find(Query())) == [1]
    for each in (first, second):
        each.close()


def test_what_is_known_of_time_is_found_by_halving_not_by_reading_all(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    store.open()
    store.append([row(n) for n in range(1, 2_001)])
    asked: list[str] = []
    with store._read() as db:
        db.set_trace_callback(asked.append)
    assert seqs(store.find(Query(since_ms=1_500_000, limit=1, oldest_first=True))) == [1_500]
    assert len(asked) < 20
    assert all("seq >=" in statement for statement in asked if "at_ms >=" in statement)
    store.close()


@pytest.mark.parametrize("column", ["who", "server", "tenant", "call_id", "outcome", "kind"])
def test_a_question_that_names_a_column_is_answered_from_its_index(tmp_path: Path, column: str) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    store.open()
    where, given = Query(**{column: "seldom"}).sql(0, 0)
    with store._read() as db:
        plan = db.execute(
            f"EXPLAIN QUERY PLAN SELECT seq FROM records WHERE {where} ORDER BY seq DESC",  # noqa: S608
            given,
        ).fetchall()
    assert f"by_{column}" in plan[0][3], plan
    assert len(plan) == 1, "sorted by hand"
    store.close()


def test_who_asks_long_keeps_nobody_waiting(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    store.open()
    store.append([row(1)])
    with store._read() as long:
        long.execute("BEGIN")
        assert long.execute("SELECT count(*) FROM records").fetchone() == (1,)
        store.append([row(2)])
        assert seqs(store.find(Query())) == [2, 1]
        assert store.kept().last == 2
        assert long.execute("SELECT count(*) FROM records").fetchone() == (1,), "it sees what it began with"
        long.execute("COMMIT")
    assert seqs(store.find(Query())) == [2, 1]
    with store._read():
        store.close()
    with pytest.raises(Unavailable, match="not open"):
        store.kept()


def test_a_file_of_a_newer_release_is_refused_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Invalid, match="newer release"):
        SqliteAuditStore(tmp_path / "audit.db").open()


def test_a_store_that_is_closed_says_so_and_does_not_open_itself(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    for use in (lambda: store.append([row(1)]), lambda: store.find(Query()), store.kept):
        with pytest.raises(Unavailable, match="not open"):
            use()


def test_the_file_is_for_the_node_s_user_alone(tmp_path: Path) -> None:
    """And those that SQLite writes beside it, in which what was written last lies; whatever the umask is."""
    store = SqliteAuditStore(tmp_path / "audit.db")
    mask = os.umask(0)
    try:
        store.open()
        store.append([row(1)])
    finally:
        os.umask(mask)
    rights = {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir()}
    assert rights == {"audit.db": 0, "audit.db-shm": 0, "audit.db-wal": 0}
    store.close()
