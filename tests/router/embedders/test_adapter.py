"""The file of an adapter, what it makes of the weights, and what is refused."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from proto.errors import Invalid, Unavailable
from router.embedders import minilm
from router.embedders.adapter import SHIPPED, Adapter
from router.embedders.minilm import MiniLM
from tests.router.embedders.encoders import WIDTH, tensors, write_safetensors

MAP = "encoder.layer.1.attention.self.query"
BASE = minilm.SHA256["model.safetensors"]
with_the_model = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason=f"{minilm.DISTRIBUTION} is not installed"
)


def parts(width: int = WIDTH, rank: int = 4, scale: float = 0.1, name: str = MAP) -> dict[str, NDArray[np.floating]]:
    rng = np.random.default_rng(0)
    return {
        f"{name}.A": (scale * rng.normal(size=(rank, width))).astype(np.float16),
        f"{name}.B": (scale * rng.normal(size=(width, rank))).astype(np.float16),
    }


def file(path: Path, arrays: dict[str, NDArray[np.floating]] | None = None, **metadata: str) -> Path:
    return write_safetensors(
        path / "small.safetensors", parts() if arrays is None else arrays, {"name": "small-1", "base": BASE} | metadata
    )


def test_the_adapted_map_is_changed_by_b_times_a_and_no_other(tmp_path: Path) -> None:
    weights, arrays = tensors(), parts()
    merged = Adapter.read(file(tmp_path)).merged(weights)
    change = arrays[f"{MAP}.B"].astype(np.float32) @ arrays[f"{MAP}.A"].astype(np.float32)
    np.testing.assert_allclose(merged[f"{MAP}.weight"], weights[f"{MAP}.weight"] + change, atol=1e-6)
    assert {n for n in weights if merged[n] is not weights[n]} == {f"{MAP}.weight"}


def test_the_tag_holds_the_name_and_tells_two_files_apart(tmp_path: Path) -> None:
    first = Adapter.read(file(tmp_path)).tag
    second = Adapter.read(file(tmp_path, parts(scale=0.2))).tag
    assert re.fullmatch(r"small-1\.[0-9a-f]{8}", first)
    assert first != second


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        (parts(width=WIDTH + 1), "is \\(64, 64\\)"),
        (parts(name="encoder.layer.7.output.dense"), "lacks A, B or a weight"),
        ({f"{MAP}.A": parts()[f"{MAP}.A"]}, "lacks A, B or a weight"),
        ({f"{MAP}.A": parts(rank=3)[f"{MAP}.A"], f"{MAP}.B": parts()[f"{MAP}.B"]}, "is \\(64, 64\\)"),
        ({f"{MAP}.A": parts()[f"{MAP}.A"] * np.float16(np.nan), f"{MAP}.B": parts()[f"{MAP}.B"]}, "not finite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(
    tmp_path: Path, arrays: dict[str, NDArray[np.floating]], why: str
) -> None:
    with pytest.raises(Unavailable, match=why):
        Adapter.read(file(tmp_path, arrays)).merged(tensors())


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 100, b"\x10" + b"\x00" * 7 + b'{"a": {"dtype"}'])
def test_a_file_that_is_no_adapter_names_the_setting(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(Invalid, match=r"search\.adapter: "):
        Adapter.read(tmp_path / "bad.safetensors")


def test_a_missing_file_and_one_without_a_name_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"search\.adapter: .*cannot be read: No such file"):
        Adapter.read(tmp_path / "none.safetensors")
    with pytest.raises(Invalid, match="neither its name nor its base"):
        Adapter.read(file(tmp_path, name=""))


def test_a_damaged_header_is_refused_whatever_the_damage(tmp_path: Path) -> None:
    whole = file(tmp_path).read_bytes()
    path = tmp_path / "damaged.safetensors"
    for at in range(0, 300, 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            Adapter.read(path).merged(tensors())
        except (Invalid, Unavailable):
            continue
    path.write_bytes(whole[:-10])
    with pytest.raises(Invalid, match="does not fit its shape"):
        Adapter.read(path)


def test_an_adapter_for_other_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="made for other weights"):
        MiniLM(adapter=file(tmp_path, base="0" * 64))


@with_the_model
def test_the_model_with_an_adapter_has_an_id_and_vectors_of_its_own(tmp_path: Path) -> None:
    path = file(tmp_path, parts(width=384, scale=0.2))
    plain, adapted = MiniLM(precision="float32"), MiniLM(precision="float32", adapter=path)
    plain.load()
    adapted.load()
    assert adapted.model_id == f"{plain.model_id}+{Adapter.read(path).tag}"
    assert MiniLM(adapter=path).model_id == f"{adapted.model_id}+int8.1"
    cosine = float((plain.embed(["read a file"]) @ adapted.embed(["read a file"]).T)[0, 0])
    assert 0.5 < cosine < 0.9999


@with_the_model
def test_the_adapter_that_ships_fits_the_model_and_brings_a_task_nearer_to_its_tool() -> None:
    plain, adapted = MiniLM(), MiniLM(adapter=SHIPPED)
    plain.load()
    adapted.load()
    texts = ["book me a table for two tonight", "reserve restaurant: Places a reservation.", "list files: Lists files."]

    def margin(model: MiniLM) -> float:
        task, right, wrong = model.embed(texts)
        return float(task @ right - task @ wrong)

    assert margin(adapted) > margin(plain)
