"""The files of the keys that a mesh shares."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from node.mesh_keys import copy, make, read, sealer_of
from proto.errors import Conflict, Invalid

RAW = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [
        RAW.hex(),
        RAW.hex().upper() + "\n",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
    ],
)
def test_a_key_is_hexadecimal_or_base64(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mesh.key"
    file.write_text(text)
    assert read(file) == RAW


@pytest.mark.parametrize("text", ["", "short", "0011", "not base64 !" * 8, "\x00" * 64, "ä" * 64, "A" * 5_000])
def test_what_is_no_key_is_refused_with_the_mend(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mesh.key"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"mesh\.key does not hold 32 bytes.*toolmesh key mesh"):
        read(file)


def test_a_missing_file_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"cannot be read: No such file.*toolmesh key mesh"):
        read(tmp_path / "mesh.key")


def test_a_made_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "new" / "mesh.key"
    make(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = read(file)
    with pytest.raises(Conflict, match="exists already"):
        make(file)
    assert read(file) == first


def test_nodes_with_the_same_file_open_what_each_other_sealed(tmp_path: Path) -> None:
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    make(old)
    make(new)
    text = sealer_of([old]).seal("state", {"a": 1})
    for files in ([old], [old, new], [new, old]):
        assert sealer_of(files).open("state", text) == {"a": 1}
    for files in ([new], []):
        with pytest.raises(Invalid):
            sealer_of(files).open("state", text)


def test_a_node_gets_a_copy_that_is_its_owners_alone(tmp_path: Path) -> None:
    make(tmp_path / "ca" / "mesh.key")
    copied = copy(tmp_path / "ca", tmp_path / "tls")
    assert copied == tmp_path / "tls" / "mesh.key"
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    assert copy(tmp_path / "ca", tmp_path / "tls") == copied
    assert copy(tmp_path / "ca", tmp_path / "ca") == tmp_path / "ca" / "mesh.key"
    assert read(copied) == read(tmp_path / "ca" / "mesh.key")
    assert copy(tmp_path / "nothing", tmp_path / "tls") is None
