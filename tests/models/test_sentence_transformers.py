"""Our reading of MiniLM against the library that published it, and the library with a model of another shape."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from proto.errors import Unavailable
from router.embedders.bert import Bert
from router.embedders.minilm import MiniLM, _installed
from router.embedders.onnx_runner import OnnxBert
from router.embedders.sentence_transformers import SentenceTransformers

# What the library's own dependencies warn of is not ours to mend.
# The first import of torch compiles it, for a minute where the machine is at work.
pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("default"), pytest.mark.timeout(400)]

TEXTS = (
    "",
    "a",
    "get_current_time",
    "read file: Reads a file from disk and returns its text. Paths are relative to the workspace.",
    "Überweise 250 € an die Werkstatt, und schicke mir danach die Quittung.",
    "画像のサイズを変更する",
    "найди самый дешёвый рейс",
    "ابحث عن وصفة",
    "tabs\tand\nlines, control \x07 characters, emoji 🛠️ and a lone accent ́",
    "word " * 300,
    '{"type": "object", "properties": {"q": {"type": "string"}}}',
    "x" * 3_000,
)


@pytest.fixture(scope="module")
def library() -> SentenceTransformers:
    model = SentenceTransformers(str(_installed()))
    model.load()
    return model


def test_both_runners_agree_with_the_library_on_the_same_weights(library: SentenceTransformers) -> None:
    ours = MiniLM(precision="float32")
    ours.load()
    assert isinstance(ours._run, OnnxBert)
    expected = library.embed(TEXTS)
    np.testing.assert_allclose(ours.embed(TEXTS), expected, atol=1e-5)
    ours._with_onnx = False
    ours.load()
    assert isinstance(ours._run, Bert)
    np.testing.assert_allclose(ours.embed(TEXTS), expected, atol=1e-5)
    assert library.dimensions == ours.dimensions


def test_int8_is_near_to_the_library(library: SentenceTransformers) -> None:
    ours = MiniLM()
    ours.load()
    assert (ours.embed(TEXTS) * library.embed(TEXTS)).sum(axis=1).min() > 0.99


def test_vectors_of_a_padded_batch_are_those_of_the_texts_alone(library: SentenceTransformers) -> None:
    alone = np.concatenate([library.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(library.embed(TEXTS), alone, atol=1e-5)


def test_speed_is_told(library: SentenceTransformers, capsys: pytest.CaptureFixture[str]) -> None:
    """Not judged here: a machine at work has no word in what is right. docs/benchmarks.md has the figures."""
    ours = {name: MiniLM(precision=name) for name in ("int8", "float32")}  # type: ignore[arg-type]
    texts = [f"{TEXTS[3]} Number {number}." for number in range(48)]
    rates = {}
    for name, model in [*ours.items(), ("sentence-transformers", library)]:
        model.load()
        began = time.thread_time()
        model.embed(texts)
        rates[name] = len(texts) / (time.thread_time() - began)
    with capsys.disabled():
        print("\ntexts a second of one core:", ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of our own making, 48 wide, with prompts, untrained: any model works as long as the library reads it."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", ":"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(words), hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    layers = [models.Transformer(str(folder / "bert"), max_seq_length=32), models.Pooling(48, "cls")]
    model = SentenceTransformer(modules=layers, device="cpu", prompts={"query": "ask: ", "document": "tell: "})
    model.save(str(folder / "tiny"))
    return folder / "tiny"


def test_a_model_of_another_width_works_with_its_own_prompts(tiny: Path) -> None:
    model = SentenceTransformers(str(tiny), batch_size=2)
    model.load()
    assert model.dimensions == 48
    texts = ["read a file", "write", "z", "list the folders of a disk"]
    vectors = model.embed(texts)
    assert vectors.shape == (4, 48)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    asked = model.embed(texts, query=True)
    assert np.abs(asked - vectors).max() > 1e-3, "queries and documents got the same prompt"
    assert model.embed([]).shape == (0, 48)


def test_other_weights_in_the_same_place_are_another_model(tiny: Path, tmp_path: Path) -> None:
    before = SentenceTransformers(str(tiny)).model_id
    assert before == SentenceTransformers(str(tiny)).model_id
    weights = next(tiny.rglob("*.safetensors"))
    kept = weights.read_bytes()
    try:
        weights.write_bytes(kept[:-4] + b"\0\0\0\1")
        assert SentenceTransformers(str(tiny)).model_id != before
    finally:
        weights.write_bytes(kept)


def test_a_folder_without_a_model_and_a_device_that_is_not_there_say_so(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3}))
    with pytest.raises(Unavailable, match="cannot be loaded"):
        SentenceTransformers(str(tmp_path)).load()
    with pytest.raises(Unavailable, match="cannot be loaded"):
        SentenceTransformers(str(tiny), device="nowhere").load()
