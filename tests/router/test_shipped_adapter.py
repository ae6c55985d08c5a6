"""The adapter that ships: small, for the weights that are used, and told how it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

from router.documents import document
from router.embedders.adapter import SHIPPED, Adapter
from router.embedders.minilm import SHA256, MiniLM
from router.evaluation.metrics import ndcg
from router.evaluation.sets import name_of, read

RANK = 16
SETS = Path(__file__).parents[1] / "data" / "search"


def test_it_is_small_and_fits_the_official_weights() -> None:
    adapter = Adapter.read(SHIPPED)
    assert SHIPPED.stat().st_size < 2_000_000
    assert adapter.base == SHA256["model.safetensors"]
    assert len(adapter.tensors) == 2 * 6 * 6, "A and B of six maps in each of six layers"
    for name, tensor in adapter.tensors.items():
        assert tensor.dtype == np.float16
        assert np.isfinite(tensor).all()
        assert tensor.shape[0 if name.endswith(".A") else 1] == RANK


def test_it_is_part_of_the_models_id_and_can_be_left_out() -> None:
    assert "+tools-1." in MiniLM(adapter=SHIPPED).model_id
    assert "tools-1" not in MiniLM().model_id


def test_it_says_what_it_was_made_of() -> None:
    with safe_open(str(SHIPPED), "np") as file:
        metadata = file.metadata()
    assert len(metadata["data"]) == 64
    made, held_out = (json.loads(metadata[part]) for part in ("made", "held_out_ndcg10"))
    assert {"rank", "steps", "seed", "share", "rate", "temperature"} <= made.keys()
    assert held_out["with the stock weights"] < held_out[f"with {made['share']:g} of the change"]


def test_by_meaning_alone_it_finds_the_tools_of_our_own_set_better_than_the_stock_weights() -> None:
    [data] = read(SETS).sets
    queries = [q for q in data.queries if q.relevant][::3]
    names = [name_of(t) for t in data.corpus.tools]
    found = []
    for path in (SHIPPED, None):
        model = MiniLM(adapter=path)
        model.load()
        tools = model.embed([document(t).named for t in data.corpus.tools])
        similar = model.embed([q.text for q in queries], query=True) @ tools.T
        ranked = ([names[i] for i in np.argsort(-row)[:10]] for row in similar)
        found.append(np.mean([ndcg(r, q.relevant) for r, q in zip(ranked, queries, strict=True)]))
    assert found[0] > found[1]
