"""The loop: contrastive steps with a falling rate, checked now and then on what was held out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from bench.adapter.batches import Batch, Batches
from bench.adapter.encoder import Encoder
from bench.adapter.pairs import Pairs
from router.evaluation.metrics import ndcg

QUERY_TOKENS = 64
TEXT_TOKENS = 80
"""Shorter than the router's 256: most texts are, and a step costs what its tokens cost."""
BATCH_TEXTS = 64
CHECK_QUERIES = 250
CHECK_TOOLS = 800


@dataclass(frozen=True, slots=True)
class Plan:
    steps: int = 700
    rate: float = 4e-4
    warmup: float = 0.07
    temperature: float = 0.05
    decay: float = 0.01
    clip: float = 1.0
    check_every: int = 175


class Trainer:
    def __init__(self, encoder: Encoder, tokenizer: Tokenizer, pairs: Pairs, plan: Plan) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._pairs = pairs
        self._plan = plan

    def vectors(self, texts: Sequence[str], tokens: int) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions), by the weights as they are."""
        ids = self._ids(texts, tokens)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), 384), dtype=np.float32)
        with torch.inference_mode():
            for begin in range(0, len(order), BATCH_TEXTS):
                batch = order[begin : begin + BATCH_TEXTS]
                out[batch] = self._encoder([ids[i] for i in batch]).numpy()
        return out

    def run(self, batches: Batches, each: Callable[[int], None]) -> None:
        """`each(step)` is called after every step, 1 to `steps`."""
        plan = self._plan
        optimizer = torch.optim.AdamW(self._encoder.parameters(), lr=plan.rate, weight_decay=plan.decay)
        rising = max(1, round(plan.warmup * plan.steps))
        falling = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / rising, (plan.steps - step) / (plan.steps - rising))
        )
        losses: list[float] = []
        began = time.monotonic()
        for step in range(1, plan.steps + 1):
            loss = self._loss(batches.next())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._encoder.parameters(), plan.clip)
            optimizer.step()
            falling.step()
            losses.append(float(loss.detach()))
            if step % 25 == 0:
                pace = (time.monotonic() - began) / step
                print(f"step {step}  loss {np.mean(losses[-25:]):.3f}  {pace:.2f} s a step", flush=True)
            each(step)

    def held_out(self) -> float:
        """Mean nDCG@10, in points, of held-out queries among their tools and a sample of the others."""
        random = np.random.default_rng(0)
        every = self._pairs.held_out
        queries = [every[int(i)] for i in random.permutation(len(every))[:CHECK_QUERIES]]
        tools = {t for q in queries for t in (*q.right, *q.wrong)}
        tools.update(random.permutation(len(self._pairs.tools))[:CHECK_TOOLS].tolist())
        shown = sorted(tools)
        texts = self.vectors([self._pairs.tools[t].named for t in shown], TEXT_TOKENS)
        similar = self.vectors([q.query for q in queries], QUERY_TOKENS) @ texts.T
        gains = []
        for query, row in zip(queries, similar, strict=True):
            ranked = [str(shown[i]) for i in np.argsort(-row, kind="stable")[:10]]
            gains.append(ndcg(ranked, frozenset(str(t) for t in query.right)))
        return 100 * float(np.mean(gains))

    def _loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of each right text against the wrong ones, a query's right texts weighed alike."""
        queries = self._encoder(self._ids(batch.queries, QUERY_TOKENS))
        texts = self._encoder(self._ids(batch.texts, TEXT_TOKENS))
        scores = queries @ texts.T / self._plan.temperature
        right, wrong = torch.from_numpy(batch.right), torch.from_numpy(batch.wrong)
        against = scores.masked_fill(~wrong, -math.inf).logsumexp(dim=1, keepdim=True)
        losses = torch.nn.functional.softplus(against - scores).masked_fill(~right, 0.0)
        return (losses.sum(dim=1) / right.sum(dim=1)).mean()

    def _ids(self, texts: Sequence[str], tokens: int) -> list[list[int]]:
        self._tokenizer.enable_truncation(tokens)
        return [e.ids for e in self._tokenizer.encode_batch_fast(list(texts))]
