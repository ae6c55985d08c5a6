"""Chroma's directory: one process at a time, real damage, crashes, and what it costs while it rests."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.chroma_directory import ASIDE_MAX, CRASHES_MAX, FAILURES_MAX, ChromaDirectory
from router.keeping import KeptVectors
from tests.router.shelves import digests, until, vectors

COUNT = 1_200
"""Chroma writes its graph to files with the thousandth vector."""

READY_S = 60.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound") / "chroma"
    store = ChromaDirectory(directory, "a-model")
    store.open()
    store.put(digests(COUNT), vectors(COUNT))
    store.close()
    return directory


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy with its files beside it."""
    for item in sound.parent.glob("chroma*"):
        (shutil.copytree if item.is_dir() else shutil.copy)(item, tmp_path / item.name)
    return tmp_path / "chroma"


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def scribble(file: Path) -> None:
    with file.open("r+b") as f:
        f.write(b"this is no such file " * 200)


def in_segment(name: str, do: Callable[[Path], None]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (file,) = directory.glob(f"*/{name}")
        do(file)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated database": lambda d: truncate(d / "chroma.sqlite3"),
    "scribbled database": lambda d: scribble(d / "chroma.sqlite3"),
    "no database": lambda d: (d / "chroma.sqlite3").unlink(),
    "no segment": lambda d: [shutil.rmtree(s) for s in d.iterdir() if s.is_dir()] and None,
    "no vectors": in_segment("data_level0.bin", Path.unlink),
    "truncated vectors": in_segment("data_level0.bin", truncate),
    "scribbled vectors": in_segment("data_level0.bin", scribble),
    "scribbled links": in_segment("link_lists.bin", scribble),
    "scribbled header": in_segment("header.bin", scribble),
    "scribbled names": in_segment("index_metadata.pickle", scribble),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_directory_is_noticed_and_begun_anew(directory: Path, damage: str) -> None:
    DAMAGES[damage](directory)
    kept = KeptVectors(ChromaDirectory(directory, "a-model"), get_s=60, away_min_s=0.01, write_after_s=0)
    kept.open()
    right = dict(zip(digests(COUNT), vectors(COUNT), strict=True))

    def all_there() -> bool:
        # As the router does: ask, and compute and put what nobody has.
        found = kept.get(digests(COUNT))
        for digest, vector in found.items():
            np.testing.assert_allclose(vector, right[digest], atol=1e-3)
        missing = [d for d in right if d not in found]
        if missing:
            kept.put(missing, np.stack([right[d] for d in missing]))
        return not missing and kept.status().waiting == 0 and kept.status().state == "ready"

    until(all_there)
    kept.close()


def test_damage_while_it_is_in_use_is_noticed_and_begun_anew(directory: Path) -> None:
    store = ChromaDirectory(directory, "a-model")
    store.open()
    assert len(store.get(digests(COUNT))) == COUNT
    scribble(directory / "chroma.sqlite3")
    for _ in range(5):
        try:
            store.put(digests(2), vectors(2))
            break
        except Unavailable:
            # As `KeptVectors` does after a failure.
            store.rest()
    assert sorted(store.get(digests(COUNT))) == digests(2)
    assert len(list(directory.parent.glob("chroma.damaged-*"))) == 1
    store.close()


def test_what_fails_again_and_again_is_moved_aside(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("something is wrong with it")

    store = ChromaDirectory(directory, "a-model")
    store.open()
    with monkeypatch.context() as failing, caplog.at_level(logging.WARNING, "toolmesh.router"):
        failing.setattr("chromadb.api.models.Collection.Collection.upsert", fail)
        for _ in range(FAILURES_MAX):
            with pytest.raises(Unavailable, match="something is wrong"):
                store.put(digests(1), vectors(1))
            store.rest()
    assert not list(directory.parent.glob("chroma.damaged-*"))
    store.put(digests(1), vectors(1))
    assert list(store.get(digests(COUNT))) == digests(1)
    assert len(list(directory.parent.glob("chroma.damaged-*"))) == 1
    store.close()


def test_a_full_disk_is_no_damage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("database or disk is full")

    store = ChromaDirectory(directory, "a-model")
    store.open()
    with monkeypatch.context() as full:
        full.setattr("router.chroma_directory.FREE_BYTES_MIN", 1 << 62)
        full.setattr("chromadb.api.models.Collection.Collection.upsert", fail)
        for _ in range(2 * FAILURES_MAX):
            with pytest.raises(Unavailable):
                store.put(digests(1), vectors(1))
            store.rest()
    assert len(store.get(digests(COUNT))) == COUNT
    store.close()


def test_the_newest_of_what_was_moved_aside_are_kept(tmp_path: Path) -> None:
    directory = tmp_path / "chroma"
    for _ in range(ASIDE_MAX + 1):
        directory.mkdir(exist_ok=True)
        for old in directory.glob("*.sqlite3*"):
            old.unlink()
        (directory / "chroma.sqlite3").write_bytes(b"this is no database" * 1000)
        store = ChromaDirectory(directory, "a-model")
        store.open()
        store.put(digests(1), vectors(1))
        assert list(store.get(digests(1))) == digests(1)
        store.close()
    assert len(list(tmp_path.glob("chroma.damaged-*"))) == ASIDE_MAX


def test_a_directory_at_which_the_process_died_time_and_again_is_moved_aside(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    busy = directory.with_name("chroma.busy")
    for crashes, survives in ((CRASHES_MAX - 1, True), (CRASHES_MAX, False)):
        busy.write_text(str(crashes))
        directory.with_name("chroma.rest").unlink(missing_ok=True)
        store = ChromaDirectory(directory, "a-model")
        store.open()
        with caplog.at_level(logging.WARNING, "toolmesh.router"):
            assert len(store.get(digests(COUNT))) == (COUNT if survives else 0)
        assert busy.exists()
        store.close()
        assert not busy.exists()
    assert "ended 2 times" in caplog.text


HOLD = """
import sys
from pathlib import Path
from router.chroma_directory import ChromaDirectory
from tests.router.shelves import digests, vectors
store = ChromaDirectory(Path(sys.argv[1]), "a-model")
store.open()
store.put(digests(3), vectors(3))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_and_one_that_was_killed_leaves_what_it_wrote(tmp_path: Path) -> None:
    directory = tmp_path / "chroma"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    store = ChromaDirectory(directory, "a-model")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="another process has it"):
            store.open()
    finally:
        holder.kill()
        holder.communicate()
    store.open()
    assert sorted(store.get(digests(4))) == digests(3)
    store.close()


def test_what_is_not_there_is_known_without_opening_chroma(directory: Path) -> None:
    store = ChromaDirectory(directory, "a-model")
    store.open()
    assert store.get(digests(5, begin=COUNT)) == {}
    assert "at rest" in repr(store)
    assert len(store.get(digests(5))) == 5
    assert "at work" in repr(store)
    store.put(digests(1, begin=COUNT), vectors(1))
    store.rest()
    assert "at rest" in repr(store)
    store.close()
    again = ChromaDirectory(directory, "a-model")
    again.open()
    assert again.get(digests(1, begin=COUNT + 1)) == {}
    assert "at rest" in repr(again)
    assert len(again.get(digests(1, begin=COUNT))) == 1
    again.close()


@pytest.mark.parametrize("spoilt", [b"", b"\x00\x01", b"tools-other-12345678\n" + bytes(8)])
def test_a_spoilt_list_of_what_is_there_is_made_anew(directory: Path, spoilt: bytes) -> None:
    directory.with_name("chroma.rest").write_bytes(spoilt)
    store = ChromaDirectory(directory, "a-model")
    store.open()
    assert len(store.get(digests(COUNT + 1))) == COUNT
    store.close()


def test_a_directory_that_cannot_be_made_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ChromaDirectory(tmp_path / "file" / "chroma", "a-model")
    with pytest.raises(Unavailable, match="vectors cannot be kept in"):
        store.open()
