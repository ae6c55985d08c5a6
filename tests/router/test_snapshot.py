from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router import snapshot
from router.snapshot import Damaged, Interrupted, read, write

META = {"model": "m", "recipe": "1"}


def parts() -> snapshot.Parts:
    return {
        "vectors": np.arange(12, dtype=np.float16).reshape(3, 4),
        "empty": np.zeros((0, 4), dtype=np.int64),
        "names": "weiß\0x".encode(),
    }


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "index"
    size = write(file, META, parts())
    assert file.stat().st_size == size
    meta, found = read(file)
    assert meta == META
    assert found["vectors"].tolist() == np.arange(12).reshape(3, 4).tolist()
    assert found["vectors"].dtype == np.float16
    assert found["empty"].shape == (0, 4)
    assert found["names"].tobytes() == "weiß\0x".encode()


def test_a_byte_that_changed_is_noticed_or_was_of_no_account(tmp_path: Path) -> None:
    file = tmp_path / "index"
    write(file, META, parts())
    whole = file.read_bytes()
    meta, found = read(file)
    noticed = 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        try:
            again, parts_again = read(file)
        except Damaged:
            noticed += 1
            continue
        # Only filling between parts may pass.
        assert whole[at] == 0
        assert again == meta
        assert all((parts_again[name] == part).all() for name, part in found.items())
    assert noticed > len(whole) // 2


def test_a_file_that_was_cut_or_grew_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "index"
    write(file, META, parts())
    whole = file.read_bytes()
    for damaged in (*(whole[:at] for at in range(len(whole))), whole + b"x", whole[1:]):
        file.write_bytes(damaged)
        with pytest.raises(Damaged):
            read(file)


def test_another_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "index"
    monkeypatch.setattr(snapshot, "FORMAT", 7)
    write(file, META, parts())
    monkeypatch.undo()
    with pytest.raises(Damaged, match="format 7"):
        read(file)


def test_writing_that_is_stopped_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "index"
    write(file, META, {"a": np.zeros(3)})
    asked = iter([True, False])
    with pytest.raises(Interrupted):
        write(file, META, {"a": np.ones(3), "b": np.ones(3)}, lambda: next(asked))
    assert read(file)[1]["a"].tolist() == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["index"]
