"""What was learned outlives the process, and a damaged file costs what it held and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Invalid
from router.evidence import Entry, Subject
from router.evidence_file import decode, encode, load, save

VECTOR = (np.eye(8)[0] * 0.6 + np.eye(8)[1] * 0.8).astype(np.float16)
ENTRY = Entry(3, Subject("a", "clock", "get_time", "tool", b"\x01\xff"), VECTOR, {"0011": 480_000}, 5)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "feedback.json"
    save(file, "model@1", [ENTRY])
    model, [(subject, vector, votes)] = load(file)
    assert (model, subject, votes) == ("model@1", ENTRY.subject, ENTRY.votes)
    assert np.array_equal(vector, VECTOR)
    assert file.stat().st_mode & 0o077 == 0, "of no concern to other users"


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "feedback.json") == ("", [])


def test_a_file_damaged_anywhere_is_told_of_and_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "feedback.json"
    save(file, "model@1", [ENTRY])
    good = file.read_bytes()
    for at in range(0, len(good), 7):
        caplog.clear()
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with caplog.at_level(logging.WARNING):
            assert load(file) == ("", [])
        assert "begins anew" in caplog.text
    file.write_bytes(good[: len(good) // 2])
    assert load(file) == ("", [])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("tool", ["a", "clock", "get_time", "tool"]),
        ("tool", ["a", "clock", 7, "tool", "00"]),
        ("tool", ["a", "clock", "x" * 2_000, "tool", "00"]),
        ("vector", "AAAA"),
        ("vector", "not base64!"),
        ("vector", 7),
        ("votes", {}),
        ("votes", {str(n): 1 for n in range(9)}),
        ("votes", {"v": -1}),
        ("votes", {"v": 1.5}),
        ("number", True),
        ("changed", "1"),
    ],
)
def test_an_entry_that_is_not_as_it_should_be_is_refused(member: str, value: object) -> None:
    with pytest.raises(Invalid, match="learned from use"):
        decode({**encode(ENTRY), member: value})
    with pytest.raises(Invalid, match="learned from use"):
        decode({k: v for k, v in encode(ENTRY).items() if k != member})
    with pytest.raises(Invalid, match="learned from use"):
        decode([])
