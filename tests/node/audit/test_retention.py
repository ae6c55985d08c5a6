"""What is too old or too much goes, and what stays can be checked as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.audit.bounds import AuditSettings
from node.audit.recorder import Recorder
from node.audit.rows import AuditStore
from node.audit.verifying import verify
from tests.node.audit.logs import call_of, ended, lines_of, numbered, recorder, records_of, stopped, until, written


async def grown(store: AuditStore, tmp_path: Path, settings: AuditSettings, monkeypatch: Any) -> Recorder:
    monkeypatch.setattr("node.audit.keeper.REMOVE_ROWS", 7)
    audit = recorder(store, tmp_path / "keys", settings, tend_s=0.01)
    audit.start(version="test")
    for n in range(60):
        audit.call(call_of(n), ended(call_of(n)))
        if n % 10 == 0:
            await written(audit, n)
    return audit


async def test_beyond_its_bytes_the_oldest_records_go_and_the_rest_is_explained(
    store: AuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await grown(store, tmp_path, AuditSettings(keep_bytes=20_000), monkeypatch)
    await until(lambda: store.kept().first > 20)
    await stopped(audit)
    store.open()
    kept = store.kept()
    assert kept.bytes < 60_000
    verdict = verify(numbered(lines_of(store)), of="store")
    assert verdict.intact, verdict
    assert (verdict.begins, verdict.first) == ("retention", kept.first)
    (reason, *_) = [r["reason"] for r in records_of(store) if r["action"] == "retention"]
    assert reason == "size"
    removed = verify(numbered(lines_of(store)[1:]), of="store")
    told = max(r["removed"]["seq"] for r in records_of(store) if r["action"] == "retention")
    assert removed.intact == (kept.first <= told), "one more than was said is missed"


async def test_what_is_younger_than_its_days_stays(
    store: AuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await grown(store, tmp_path, AuditSettings(keep_ms=10**9), monkeypatch)
    await until(lambda: audit.counts[1] == 0)
    await stopped(audit)
    store.open()
    assert store.kept().first == 1
    assert [r for r in records_of(store) if r["action"] == "retention"] == []


async def test_what_is_older_than_its_days_goes(
    store: AuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await grown(store, tmp_path, AuditSettings(keep_ms=1), monkeypatch)
    await until(lambda: store.kept().first > 40)
    await stopped(audit)
    store.open()
    assert {r["reason"] for r in records_of(store) if r["action"] == "retention"} == {"age"}
    assert verify(numbered(lines_of(store)), of="store").intact
