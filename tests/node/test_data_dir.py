from __future__ import annotations

from pathlib import Path

import pytest

from node.data_dir import LOCK_FILE, DataDir
from proto.errors import Unavailable


def test_a_directory_is_made_claimed_once_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    first, second = DataDir(path), DataDir(path)
    first.claim()
    first.claim()
    assert "claimed" in repr(first)
    with pytest.raises(Unavailable, match=r"node\.data_dir .* in use by another node; stop that one"):
        second.claim()
    assert "free" in repr(second)
    first.release()
    first.release()
    second.claim()
    second.release()


def test_a_lock_file_left_behind_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("left by a crash")
    claimed = DataDir(tmp_path)
    claimed.claim()
    claimed.release()


@pytest.mark.parametrize("blocked", ["file/data", "file"])
def test_what_cannot_be_a_directory_is_named(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"node\.data_dir .*file.* cannot be used: .*; name a directory"):
        DataDir(tmp_path / blocked).claim()
