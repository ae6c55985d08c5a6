"""Files of lines follow the store, through crashes, full disks and rotation, and what goes is told first."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.audit.bounds import AuditSettings, JsonlFiles
from node.audit.memory import MemoryAuditStore
from node.audit.rows import AuditStore
from node.audit.signing import AnyKey
from node.audit.sources import check
from node.audit.store import SqliteAuditStore
from proto import jsons
from proto.errors import Invalid
from tests.node.audit.logs import call_of, ended, lines_of, recorder, records_of, stopped, until, written


def files_of(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"))


def text_of(directory: Path) -> bytes:
    return b"".join(f.read_bytes() for f in files_of(directory))


def settings_of(directory: Path, rotate_bytes: int = 10**6, keep: int = 10) -> AuditSettings:
    return AuditSettings(jsonl=JsonlFiles(directory, rotate_bytes, keep))


async def life(store: AuditStore, tmp_path: Path, calls: int = 3, settings: AuditSettings | None = None) -> None:
    audit = recorder(store, tmp_path, settings or settings_of(tmp_path / "lines"))
    audit.start(version="test")
    for n in range(calls):
        audit.call(call_of(n), ended(call_of(n)))
    if settings is None or settings.jsonl:
        await until(lambda: audit.counts[1] == 0 and last_in(tmp_path / "lines") == audit.counts[0])
    await stopped(audit)


def last_in(directory: Path) -> int:
    lines = [line for f in files_of(directory)[-1:] for line in f.read_bytes().splitlines()]
    return int(jsons.loads_object(lines[-1], "a line")["seq"]) if lines and lines[-1].endswith(b"}") else 0


@pytest.fixture
def store() -> MemoryAuditStore:
    return MemoryAuditStore()


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "lines"


async def test_lines_are_those_of_the_store_over_restarts(store: MemoryAuditStore, tmp_path: Path, lines: Path) -> None:
    for _ in range(3):
        await life(store, tmp_path)
    assert text_of(lines) == b"".join(lines_of(store))
    assert len(files_of(lines)) == 1
    assert check([lines], AnyKey()).intact
    assert files_of(lines)[0].stat().st_mode & 0o077 == 0


async def test_a_line_that_was_not_written_whole_is_completed_from_the_store(
    store: MemoryAuditStore, tmp_path: Path, lines: Path
) -> None:
    await life(store, tmp_path)
    (file,) = files_of(lines)
    whole = file.read_bytes()
    for cut in (5, len(whole.splitlines()[-1]) + 1, len(whole) // 2, len(whole)):
        file.write_bytes(whole[: len(whole) - cut])
        await life(store, tmp_path, calls=0)
        whole = b"".join(lines_of(store))
        assert text_of(lines) == whole
        assert files_of(lines) == [file]


async def test_files_that_begin_late_get_what_the_store_has(
    store: MemoryAuditStore, tmp_path: Path, lines: Path
) -> None:
    await life(store, tmp_path, settings=AuditSettings())
    await life(store, tmp_path)
    assert text_of(lines) == b"".join(lines_of(store))


async def test_files_that_cannot_be_written_follow_once_they_can_and_that_is_told(
    store: MemoryAuditStore, tmp_path: Path, lines: Path
) -> None:
    lines.write_text("a file, no directory")  # noqa: ASYNC240
    audit = recorder(store, tmp_path, settings_of(lines))
    audit.start(version="test")
    await until(lambda: "audit.jsonl.directory" in audit.status()["problem"])
    assert [a.name for a in audit.alarms] == ["audit_jsonl"]
    for n in range(5):
        audit.call(call_of(n), ended(call_of(n)))
    await written(audit, 6)
    lines.unlink()  # noqa: ASYNC240
    await until(lambda: audit.call(call_of(99), ended(call_of(99))) is None and not audit.failing)
    await stopped(audit)
    assert text_of(lines) == b"".join(lines_of(store))


async def test_what_somebody_wrote_into_the_files_is_not_written_over(
    store: MemoryAuditStore, tmp_path: Path, lines: Path
) -> None:
    await life(store, tmp_path)
    (file,) = files_of(lines)
    *others, stop, _ = file.read_bytes().splitlines(keepends=True)
    before = b"".join([*others, stop.replace(b'"kind":"system"', b'"kind":"forged"')])
    file.write_bytes(before)
    await life(store, tmp_path)
    assert files_of(lines)[0].read_bytes() == before
    assert len(files_of(lines)) == 2
    assert check([lines], AnyKey()).begins == "retention"
    assert not check([file], AnyKey()).intact


async def test_files_are_followed_by_the_next_and_the_oldest_go_after_the_log_has_said_so(
    store: MemoryAuditStore, tmp_path: Path, lines: Path
) -> None:
    for _ in range(4):
        await life(store, tmp_path, calls=10, settings=settings_of(lines, rotate_bytes=4_000, keep=3))
    files = files_of(lines)
    assert 3 <= len(files) <= 4
    assert all(f.stat().st_size <= 4_000 for f in files)
    removed = [r["removed"] for r in records_of(store) if r["action"] == "retention"]
    assert {r["of"] for r in removed} == {"jsonl"}
    verdict = check([lines], AnyKey())
    assert verdict.intact, verdict
    assert verdict.begins == "retention"
    assert verdict.first - 1 in [r["seq"] for r in removed]
    one = check([files[1]], AnyKey())
    assert one.flaw is not None
    assert "--after" in one.flaw.text


async def test_what_the_files_may_lack_the_store_may_not(tmp_path: Path) -> None:
    """An announcement that files go explains nothing that is missing in the store."""
    store = SqliteAuditStore(tmp_path / "audit.db")
    for _ in range(3):
        await life(store, tmp_path, calls=10, settings=settings_of(tmp_path / "lines", rotate_bytes=4_000, keep=2))
    store.open()
    (first, *_) = [r["removed"]["seq"] for r in records_of(store) if r["action"] == "retention"]
    store.remove_to(first, 10**6)
    store.close()
    verdict = check([tmp_path / "audit.db"], AnyKey())
    assert verdict.flaw is not None
    assert verdict.flaw.what == "start"


def test_a_directory_without_a_log_and_a_file_that_is_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="neither"):
        check([tmp_path], AnyKey())
    with pytest.raises(Invalid, match=r"gone\.jsonl"):
        check([tmp_path / "gone.jsonl"], AnyKey())
    with pytest.raises(Invalid, match=r"gone\.db"):
        check([tmp_path / "gone.db"], AnyKey())
