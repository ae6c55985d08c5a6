"""The encoder in torch, with a low-rank change beside each linear map: the same arithmetic as `router.embedders.bert`.

All tokens of a batch go through the linear maps as one matrix, so that no time is spent on padding; attention alone
is padded. The stock weights are frozen; what is trained is A (rank, in) and B (out, rank) of each map: W + B·A.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = 6
HEADS = 12
EPSILON = 1e-12
MAPS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class LowRank(nn.Module):
    """x·Wᵀ + b + (x·Aᵀ)·Bᵀ·scale. B begins as zero: the stock model."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        out, width = weight.shape
        self.down = nn.Parameter(torch.empty(rank, width).uniform_(-1, 1) / math.sqrt(width))
        self.up = nn.Parameter(torch.zeros(out, rank))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        change = functional.linear(functional.linear(x, self.down), self.up)
        return torch.add(functional.linear(x, self.weight, self.bias), change, alpha=self.scale)


class Encoder(nn.Module):
    def __init__(self, tensors: Mapping[str, Tensor], *, rank: int, scale: float) -> None:
        """`tensors` as the model's file names them."""
        super().__init__()
        self.rank = rank
        self._words = tensors["embeddings.word_embeddings.weight"]
        kind = tensors["embeddings.token_type_embeddings.weight"][0]
        self._positions = tensors["embeddings.position_embeddings.weight"] + kind
        self._norms = {
            name.removesuffix(".weight"): (tensors[name], tensors[name.removesuffix("weight") + "bias"])
            for name in tensors
            if name.endswith("LayerNorm.weight")
        }
        self.maps = nn.ModuleDict(
            {
                _key(name): LowRank(tensors[f"{name}.weight"], tensors[f"{name}.bias"], rank, scale)
                for name in (f"encoder.layer.{layer}.{part}" for layer in range(LAYERS) for part in MAPS)
            }
        )

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of each text → unit vectors, shape (texts, hidden size)."""
        lengths = torch.tensor([len(ids) for ids in texts])
        spots = torch.arange(int(lengths.max())).expand(len(texts), -1)
        kept = spots < lengths[:, None]
        x = self._words[torch.tensor([i for ids in texts for i in ids])] + self._positions[spots[kept]]
        x = self._norm("embeddings.LayerNorm", x)
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._map(f"{name}.attention.output.dense", self._attend(f"{name}.attention.self", x, kept))
            x = self._norm(f"{name}.attention.output.LayerNorm", x + attended)
            wide = functional.gelu(self._map(f"{name}.intermediate.dense", x))
            x = self._norm(f"{name}.output.LayerNorm", x + self._map(f"{name}.output.dense", wide))
        owners = torch.repeat_interleave(torch.arange(len(texts)), lengths)
        summed = torch.zeros(len(texts), x.shape[1]).index_add(0, owners, x)
        return functional.normalize(summed, dim=1)

    def soften(self, share: float) -> None:
        """Keep this share of the change of every map."""
        for part in self.maps.values():
            assert isinstance(part, LowRank)
            part.scale *= share

    def changes(self) -> dict[str, Tensor]:
        """`NAME.A` (rank, in) and `NAME.B` (out, rank) of every map, the scale folded into B."""
        found = {}
        for key, part in self.maps.items():
            assert isinstance(part, LowRank)
            name = key.replace("/", ".")
            found[f"{name}.A"] = part.down.detach().clone()
            found[f"{name}.B"] = part.up.detach() * part.scale
        return found

    def _map(self, name: str, x: Tensor) -> Tensor:
        mapped: Tensor = self.maps[_key(name)](x)
        return mapped

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._norms[name]
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, EPSILON)

    def _attend(self, name: str, x: Tensor, kept: Tensor) -> Tensor:
        """`kept` (texts, longest) is true where a text has a token."""
        parts = []
        for part in ("query", "key", "value"):
            padded = x.new_zeros(*kept.shape, x.shape[1])
            padded = padded.masked_scatter(kept[:, :, None], self._map(f"{name}.{part}", x))
            parts.append(padded.view(*kept.shape, HEADS, -1).transpose(1, 2))
        mixed = functional.scaled_dot_product_attention(*parts, attn_mask=kept[:, None, None, :])
        return mixed.transpose(1, 2).reshape(*kept.shape, -1)[kept]


def _key(name: str) -> str:
    # A module's name may hold no dot.
    return name.replace(".", "/")
