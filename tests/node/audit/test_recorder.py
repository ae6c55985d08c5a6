"""A record is true: of what was sent, in order, and where something is missing it says so."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from node.audit.bounds import AuditSettings
from node.audit.chain import unlinked
from node.audit.entries import Bodies, now_ms
from node.audit.masking import Mask
from node.audit.memory import MemoryAuditStore
from node.audit.rows import AuditStore, Row
from node.audit.signing import AnyKey
from node.audit.sources import check
from node.audit.store import SqliteAuditStore
from node.audit.verifying import verify
from node.ports import Resource
from proto import jsons
from proto.errors import Unavailable
from proto.records import Decision
from tests.node.audit.logs import (
    ANA,
    ANSWER,
    BOB,
    call_of,
    ended,
    lines_of,
    numbered,
    recorder,
    records_of,
    stopped,
    until,
    written,
)


class Disk(MemoryAuditStore):
    """A store whose disk a test can fill, or make slow."""

    def __init__(self) -> None:
        super().__init__()
        self.full = ""
        self.writes = threading.Event()
        self.writes.set()
        self.waiting = threading.Event()

    def append(self, rows: Sequence[Row]) -> None:
        if not self.writes.is_set():
            self.waiting.set()
        self.writes.wait(20)
        if self.full:
            raise Unavailable(self.full)
        super().append(rows)


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_a_call_is_recorded_with_who_what_where_how_and_digests_of_what_was_sent(
    store: AuditStore, tmp_path: Path
) -> None:
    audit = recorder(store, tmp_path / "keys")
    audit.start(version="test")
    call = call_of(7)
    audit.call(call, ended(call, decision=Decision(True, "", "policy staff")))
    await stopped(audit)
    store.open()
    (record,) = records_of(store, kind="call")
    assert record["who"] == {
        "subject": "ana", "issuer": "mesh.test", "tenant": "acme", "kind": "key", "credential": "key/ana"
    }  # fmt: skip
    assert record["what"] == {"server": "units", "tool": "convert_unit", "owner": "eu-1", "method": "tools/call"}
    assert (record["node"], record["ran_at"], record["outcome"], record["rule"]) == (
        "eu-1",
        "eu-1",
        "ok",
        "policy staff",
    )
    assert (record["call_id"], record["took_ms"], record["attempts"]) == ("call-7", 1.5, 1)
    params, answer = jsons.canonical(call.params), jsons.canonical(ANSWER)
    assert record["digests"] == {
        "params": hashlib.sha256(params).hexdigest(),
        "tool": "07" * 32,
        "answer": hashlib.sha256(answer).hexdigest(),
    }
    assert record["bytes"] == {"in": len(params), "out": len(answer)}
    assert "bodies" not in record
    assert "convert" not in str({k: v for k, v in record.items() if k not in ("what", "rule")})


async def test_records_of_every_kind_hang_together_from_start_to_stop(store: AuditStore, tmp_path: Path) -> None:
    audit = recorder(store, tmp_path / "keys")
    audit.start(version="test")
    audit.call(call_of(), ended(call_of()))
    audit.decision(ANA, "list", Resource("bank", "us-1"), Decision(False, "another tenant's", "tenant"))
    audit.decision(ANA, "call", Resource("bank", "us-1", tool="pay"), Decision(False, "", "no-pay"), shadow="no-pay")
    audit.signin("10.0.0.9", "bearer", "a valid key is needed")
    audit.admin(BOB, "policy set", "no-pay", before=None, after={"text": "forbid(…)"})
    audit.peer("us-1", "down", reason="silent for 3 s")
    audit.system("jwks", reason="rotated")
    await stopped(audit)
    store.open()
    records = records_of(store)
    assert [(r["kind"], r["action"]) for r in records] == [
        ("system", "start"), ("call", "call"), ("decision", "list"), ("decision", "call"), ("signin", "authenticate"),
        ("admin", "policy set"), ("peer", "down"), ("system", "jwks"), ("system", "stop"), ("system", "checkpoint"),
    ]  # fmt: skip
    assert [records[i]["outcome"] for i in (2, 3)] == ["denied", "would be denied"]
    assert records[5]["digests"] == {"after": jsons.digest({"text": "forbid(…)"}).hex()}
    verdict = verify(numbered(lines_of(store)), of="store")
    assert (verdict.intact, verdict.ends, verdict.signed_to) == (True, "stopped", 9)


async def test_a_restart_goes_on_with_the_chain_and_says_after_what(store: AuditStore, tmp_path: Path) -> None:
    for _ in range(3):
        audit = recorder(store, tmp_path / "keys")
        audit.start(version="test")
        await stopped(audit)
        store.open()
    follows = [r["follows"] for r in records_of(store) if r["action"] == "start"]
    assert [f["after"] for f in follows] == ["nothing", "stop", "stop"]
    assert [f.get("seq") for f in follows] == [None, 3, 6]
    epochs = [r["epoch"] for r in records_of(store)]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 3
    assert verify(numbered(lines_of(store))).intact


async def test_a_start_after_a_kill_says_that_the_end_may_be_lost(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path)
    audit.start(version="test")
    audit.call(call_of(), ended(call_of()))
    await written(audit, 2)
    # What is on the disk when the process is killed, without what is done on the way out.
    with sqlite3.connect(tmp_path / "audit.db") as db, sqlite3.connect(tmp_path / "killed.db") as copy:
        db.backup(copy)
    db.close(), copy.close()
    await stopped(audit)
    killed = SqliteAuditStore(tmp_path / "killed.db")
    again = recorder(killed, tmp_path)
    again.start(version="test")
    await stopped(again)
    killed.open()
    assert [r["follows"]["after"] for r in records_of(killed) if r["action"] == "start"] == ["nothing", "crash"]
    killed.close()
    assert check([tmp_path / "killed.db"], AnyKey()).intact


async def test_a_store_whose_end_was_cut_off_is_noticed_at_the_start_and_by_the_check(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path)
    audit.start(version="test")
    for n in range(5):
        audit.call(call_of(n), ended(call_of(n)))
    await stopped(audit)
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("DELETE FROM records WHERE seq > 4")
    db.close()
    cut = check([tmp_path / "audit.db"], AnyKey())
    assert cut.flaw is not None
    assert (cut.flaw.what, cut.flaw.seq) == ("tail", 5)
    again = recorder(store, tmp_path)
    again.start(version="test")
    await until(lambda: again.failing)
    assert "not whole" in again.status()["problem"]
    await stopped(again)
    gap = check([tmp_path / "audit.db"], AnyKey())
    assert gap.flaw is not None
    assert (gap.flaw.what, gap.flaw.seq) == ("gap", 5)


async def test_who_hides_a_record_from_questions_is_found_out_by_the_check(tmp_path: Path) -> None:
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path)
    audit.start(version="test")
    audit.call(call_of(), ended(call_of()))
    await stopped(audit)
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("UPDATE records SET who = 'eve' WHERE seq = 2")
    db.close()
    verdict = check([tmp_path / "audit.db"], AnyKey())
    assert verdict.flaw is not None
    assert (verdict.flaw.what, verdict.flaw.seq) == ("columns", 2)


async def test_a_damaged_store_is_set_aside_and_a_new_log_says_why(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"no database " * 1_000)
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path)
    audit.start(version="test")
    assert "set aside" in audit.status()["problem"]
    assert [a.name for a in audit.alarms] == ["audit_damaged"]
    await stopped(audit)
    (aside,) = tmp_path.glob("audit.db.damaged-*")  # noqa: ASYNC240
    assert aside.read_bytes().startswith(b"no database")
    store.open()
    assert "set aside" in records_of(store)[0]["reason"]
    store.close()


# ---- what cannot be written ---------------------------------------------------------------------------


async def test_a_full_disk_loses_nothing_while_there_is_room_and_is_told_and_mended(disk: Disk, tmp_path: Path) -> None:
    audit = recorder(disk, tmp_path)
    audit.start(version="test")
    await written(audit, 1)
    disk.full = "the disk is full"
    for n in range(100):
        audit.call(call_of(n), ended(call_of(n)))
    await until(lambda: audit.failing)
    assert audit.status()["problem"] == "the disk is full"
    assert [(a.name, a.message) for a in audit.alarms] == [("audit_store", "the disk is full")]
    assert records_of(disk, kind="call") == []
    disk.full = ""
    await until(lambda: not audit.failing)
    await stopped(audit)
    assert [r["call_id"] for r in records_of(disk, kind="call")] == [f"call-{n}" for n in range(100)]
    assert audit.lost == {}
    assert verify(numbered(lines_of(disk))).intact


@pytest.mark.parametrize("trouble", ["full", "locked"])
async def test_a_real_database_that_is_full_or_locked_is_told_and_written_once_it_can_be(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.audit.store.BUSY_S", 0.05)
    store = SqliteAuditStore(tmp_path / "audit.db")
    audit = recorder(store, tmp_path)
    audit.start(version="test")
    await written(audit, 1)
    other = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
    assert store._db is not None
    if trouble == "full":
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
    else:
        other.execute("BEGIN IMMEDIATE")
    for n in range(50):
        audit.call(call_of(n), ended(call_of(n)))
    await until(lambda: audit.failing)
    assert trouble in audit.status()["problem"]
    if trouble == "full":
        store._db.execute("PRAGMA max_page_count = 1000000")
    else:
        other.execute("ROLLBACK")
    other.close()
    await until(lambda: not audit.failing)
    await stopped(audit)
    verdict = check([tmp_path / "audit.db"], AnyKey())
    assert verdict.intact, verdict
    store.open()
    assert len(records_of(store, kind="call")) == 50
    store.close()


async def test_what_the_queue_has_no_room_for_is_counted_by_the_next_record(disk: Disk, tmp_path: Path) -> None:
    audit = recorder(disk, tmp_path, AuditSettings(queue_records=10))
    audit.start(version="test")
    await written(audit, 1)
    disk.writes.clear()
    for n in range(25):
        audit.call(call_of(n), ended(call_of(n)))
    audit.signin("10.0.0.9", "key", "no")
    assert audit.lost == {"call": 15, "signin": 1}
    audit.ready()
    disk.writes.set()
    await until(lambda: audit.counts[1] == 0)
    audit.call(call_of(99), ended(call_of(99)))
    await stopped(audit)
    told = records_of(disk)
    (overflow,) = [r for r in told if r["action"] == "overflow"]
    assert overflow["lost"] == {"call": 15, "signin": 1}
    assert overflow["since"] <= overflow["at"]
    assert told[overflow["seq"]]["call_id"] == "call-99", "it stands where they are missing"
    assert [r["call_id"] for r in told if r["kind"] == "call"] == [*(f"call-{n}" for n in range(10)), "call-99"]
    assert verify(numbered(lines_of(disk))).intact


async def test_a_flood_of_calls_pushes_no_act_of_an_operator_out(disk: Disk, tmp_path: Path) -> None:
    audit = recorder(disk, tmp_path, AuditSettings(queue_records=20))
    audit.start(version="test")
    await written(audit, 1)
    disk.writes.clear()
    for n in range(50):
        audit.call(call_of(n), ended(call_of(n)))
    audit.admin(BOB, "disable", "units")
    disk.writes.set()
    await stopped(audit)
    assert [r["what"]["object"] for r in records_of(disk, kind="admin")] == ["units"]


async def test_with_refuse_no_call_may_begin_while_there_is_no_room_and_those_that_run_are_recorded(
    disk: Disk, tmp_path: Path
) -> None:
    audit = recorder(disk, tmp_path, AuditSettings(queue_records=20, overflow="refuse"))
    audit.start(version="test")
    await written(audit, 1)
    disk.writes.clear()
    for n in range(20):
        audit.ready()
        audit.call(call_of(n), ended(call_of(n)))
    with pytest.raises(Unavailable, match="cannot record"):
        audit.ready()
    audit.call(call_of(20), ended(call_of(20)))
    assert audit.lost == {}
    disk.writes.set()
    await until(lambda: audit.counts[1] == 0)
    audit.ready()
    await stopped(audit)
    assert len(records_of(disk, kind="call")) == 21


async def test_rows_that_wait_for_a_slow_disk_are_bounded_by_their_bytes(disk: Disk, tmp_path: Path) -> None:
    audit = recorder(disk, tmp_path, AuditSettings(queue_records=100_000, queue_bytes=20_000))
    audit.start(version="test")
    await written(audit, 1)
    disk.writes.clear()
    while not audit.lost:
        audit.call(call_of(), ended(call_of()))
        await asyncio.sleep(0.001)
    assert audit.counts[2] < 200_000
    disk.writes.set()
    await stopped(audit)
    assert verify(numbered(lines_of(disk))).intact


async def test_params_of_a_call_are_let_go_though_the_disk_keeps_its_record_waiting(disk: Disk, tmp_path: Path) -> None:
    audit = recorder(disk, tmp_path)
    audit.start(version="test")
    await written(audit, 1)
    disk.writes.clear()

    class Params(dict[str, Any]):
        gone = threading.Event()

        def __del__(self) -> None:
            self.gone.set()

    audit.call(call_of(1, name="x"), ended(call_of(1)))
    await asyncio.to_thread(disk.waiting.wait, 10)
    call = call_of(2)
    object.__setattr__(call, "params", Params({"name": "y"}))
    audit.call(call, ended(call))
    del call
    await until(Params.gone.is_set)
    disk.writes.set()
    await stopped(audit)


async def test_a_stop_does_not_wait_for_a_disk_for_ever(disk: Disk, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("node.audit.recorder.STOP_S", 0.1)
    audit = recorder(disk, tmp_path)
    audit.start(version="test")
    await written(audit, 1)
    disk.full = "gone"
    audit.call(call_of(), ended(call_of()))
    await stopped(audit)
    assert len(records_of(disk)) == 1


# ---- what is in a record --------------------------------------------------------------------------------


async def test_what_cannot_be_written_is_told_and_ends_nothing(store: AuditStore, tmp_path: Path) -> None:
    audit = recorder(store, tmp_path / "keys")
    audit.start(version="test")
    strange = call_of(1, arguments={"x": float("nan")})
    audit.call(strange, ended(strange))
    audit.admin(BOB, "\ud800", "\ud800", after={"x": object()})
    audit.admin(BOB, "\ud800", "\ud800")
    await stopped(audit)
    store.open()
    actions = [r["action"] for r in records_of(store)]
    assert actions == ["start", "unwritable", "unwritable", "?", "stop", "checkpoint"]
    assert verify(numbered(lines_of(store))).intact


async def test_names_that_callers_make_up_are_cut(store: AuditStore, tmp_path: Path) -> None:
    audit = recorder(store, tmp_path / "keys")
    audit.start(version="test")
    call = call_of(1)
    over = ended(call, "unknown", decision=Decision(False, "no " * 10_000, "r" * 10_000))
    long = over.record._replace(tool="t" * 100_000, server="s" * 100_000, call_id="c" * 100_000)
    audit.call(call, type(over)(long, over.decision, over.answer))
    await stopped(audit)
    store.open()
    (row,) = [line for line in lines_of(store) if b'"kind":"call"' in line]
    assert len(row) < 4_000


async def test_bodies_are_kept_only_if_asked_masked_and_cut(store: AuditStore, tmp_path: Path) -> None:
    audit = recorder(store, tmp_path / "keys", AuditSettings(bodies=Bodies(Mask(["$.params.arguments.note"]), 200)))
    audit.start(version="test")
    call = call_of(
        1, name="pay", arguments={"to": "ben", "Password": "hunter2-marker", "note": "dear-marker", "n": 2**70}
    )
    audit.call(call, ended(call, answer={"result": {"content": [{"type": "text", "text": "y" * 1_000}]}}))
    await stopped(audit)
    store.open()
    (record,) = records_of(store, kind="call")
    assert record["bodies"]["params"] == (
        '{"name":"pay","arguments":{"to":"ben","Password":"[masked]","note":"[masked]","n":1180591620717411303424}}'
    )
    assert len(record["bodies"]["answer"]) <= 200
    assert record["digests"]["params"] == jsons.digest(call.params).hex(), "of what was sent, not of what is shown"
    assert not any(b"marker" in line for line in lines_of(store))


async def test_times_never_go_back_in_the_store_though_the_clock_does(
    store: AuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Around the present: what is older than `keep_days` is removed while the recorder runs.
    now = now_ms()
    clock = iter([now + 5_000, now + 9_000, now + 2_000, now + 1_000, *[now + 3_000] * 100])
    monkeypatch.setattr("node.audit.scribe.now_ms", lambda: next(clock))
    audit = recorder(store, tmp_path / "keys")
    audit.start(version="test")
    for n in range(3):
        audit.call(call_of(n), ended(call_of(n)))
    await stopped(audit)
    store.open()
    times = [store.row(seq).at_ms for seq in range(1, 5)]  # type: ignore[union-attr]
    assert times == sorted(times)


def test_the_last_record_can_be_taken_for_a_head_and_back() -> None:
    assert unlinked(b'{"prev":"%b","seq":3,"hash":"%b"}' % (b"0" * 64, b"a" * 64)).head.seq == 3
