"""A low-rank change to a model's linear maps (Hu et al. 2021, LoRA), trained to bring tasks near to their tools.

The file is safetensors: for a map `M`, whose weight W the model's file calls `M.weight`, `M.A` (rank, in) and `M.B`
(out, rank); the map becomes W + B @ A. Its metadata has `name`, and `base`: SHA-256 of the model's file. Made by
`python -m bench.adapter`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proto.errors import Invalid, Unavailable
from router.embedders.safe_tensors import contents

SHIPPED = Path(__file__).parent / "adapters" / "tools-1.safetensors"
BYTES_MAX = 64 * 1024 * 1024
NAME_MAX = 40

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Adapter:
    """`tag` names it in a model id: its name and the first digits of its file's SHA-256."""

    tag: str
    base: str
    tensors: Mapping[str, NDArray[Any]]

    @classmethod
    def read(cls, path: Path) -> Adapter:
        """Raises `Invalid` if the file cannot be read, or is no adapter."""
        try:
            with path.open("rb") as file:
                data = file.read(BYTES_MAX + 1)
        except OSError as e:
            raise Invalid(
                f"search.adapter: {path} cannot be read: {e.strerror or e}; name another or say true"
            ) from None
        if len(data) > BYTES_MAX:
            raise Invalid(f"search.adapter: {path} has more than {BYTES_MAX} bytes; an adapter has a few millions")
        try:
            held = contents(data, path.name)
        except Unavailable as e:
            raise Invalid(f"search.adapter: {e.message}") from None
        name, base = held.metadata.get("name", ""), held.metadata.get("base", "")
        if not 0 < len(name) <= NAME_MAX or len(base) != 64 or not held.tensors:
            raise Invalid(f"search.adapter: {path} says neither its name nor its base; is it an adapter of toolmesh?")
        return cls(f"{name}.{hashlib.sha256(data).hexdigest()[:8]}", base, held.tensors)

    def merged(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """`weights` with each adapted map changed. Raises `Unavailable` where they do not fit each other."""
        merged = dict(weights)
        for name in sorted({key.rpartition(".")[0] for key in self.tensors}):
            a, b, weight = self.tensors.get(f"{name}.A"), self.tensors.get(f"{name}.B"), merged.get(f"{name}.weight")
            if a is None or b is None or weight is None:
                raise Unavailable(f"the adapter {self.tag} does not fit the model: {name!r} lacks A, B or a weight")
            if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != weight.shape or b.shape[1] != a.shape[0]:
                raise Unavailable(
                    f"the adapter {self.tag} does not fit the model: {name} is {weight.shape}, A {a.shape}, B {b.shape}"
                )
            change = b.astype(np.float32) @ a.astype(np.float32)
            if not np.isfinite(change).all():
                raise Unavailable(f"the adapter {self.tag} holds numbers that are not finite, in {name}")
            merged[f"{name}.weight"] = weight + change
        return merged
