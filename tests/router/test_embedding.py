from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from proto.errors import Unavailable
from router import embedding as embedding_module
from router.backlog import Backlog, Stage
from router.documents import text_digest
from router.embedding import Embedding, Progress
from router.index import Index
from router.memory import HashingEmbedder, MemoryStore
from router.ports import Lent, ToolEntry, ToolKey, Vectors, VectorSource

MakeEntry = Callable[..., ToolEntry]


class Recording(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        self.asked += texts
        self.meanwhile()
        return super().embed(texts)


class Peers:
    """Lends what it has; `later` it says of the rest, as often as told."""

    def __init__(self, patience: int = 0) -> None:
        self.has: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
        self.asked: list[dict[str, str]] = []
        self.patience = patience

    def get(self, wanted: Mapping[str, str]) -> Lent:
        self.asked.append(dict(wanted))
        self.patience -= 1
        found = {d: self.has[d] for d in wanted if d in self.has}
        return Lent(found, frozenset(wanted) - found.keys() if self.patience >= 0 else frozenset())


def made(embedder: HashingEmbedder, source: VectorSource | None = None, **rest: object) -> tuple[Index, Embedding]:
    index = Index()
    embedding = Embedding(embedder, None, source, index, lambda work: work(), **rest)  # type: ignore[arg-type]
    embedding.load()
    return index, embedding


def run(embedding: Embedding) -> None:
    while embedding.step() is not Progress.DONE:
        pass


def test_every_first_vector_comes_before_any_second(entry: MakeEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_module, "DOCUMENTS_A_STEP", 5)
    embedder = Recording()
    index, embedding = made(embedder)
    for i in range(20):
        index.put(entry(f"tool_{i}", f"Do this {i}. And then that as well.", server=f"s{i}", server_description="Any."))
    run(embedding)
    first = [at for at, text in enumerate(embedder.asked) if text.startswith("tool") and ":" in text]
    assert len(first) == 20
    assert first == list(range(20))
    assert len(embedder.asked) == len(set(embedder.asked)) == embedding.computed


def test_what_comes_while_others_wait_is_embedded_next(entry: MakeEntry) -> None:
    embedder = Recording()
    index, embedding = made(embedder)
    for i in range(100):
        index.put(entry(f"old_{i}", f"Number {i}."))
    news = iter([entry("new", "Just come.")])

    def arrives() -> None:
        for one in news:
            index.put(one)

    embedder.meanwhile = arrives
    run(embedding)
    at = next(i for i, text in enumerate(embedder.asked) if text.startswith("new:"))
    assert at == embedding_module.TEXTS_A_BATCH


def test_newest_and_oldest_take_turns() -> None:
    backlog = Backlog()
    for row in range(7):
        backlog.reached(row, Stage.NOTHING)
    assert backlog.next(5) == (Stage.NAMED, [6, 0, 5, 1, 4])
    assert sorted(backlog.next(99)[1]) == list(range(7))
    for row in range(7):
        backlog.reached(row, Stage.NAMED)
    assert backlog.next(2) == (Stage.ALL, [6, 0])
    backlog.discard(6)
    backlog.reached(0, Stage.ALL)
    assert repr(backlog) == "Backlog(0 without a vector, 5 without all, 0 aside)"


def test_what_peers_lend_is_not_computed(entry: MakeEntry) -> None:
    peers, lender = Peers(), HashingEmbedder()
    lender.load()
    text = "now: Tell the time."
    peers.has[text_digest(text)] = lender.embed([text])[0]
    embedder = Recording()
    index, embedding = made(embedder, peers)
    index.put(entry("now", "Tell the time.", owner="far", server="clock"))
    run(embedding)
    assert text not in embedder.asked
    assert (embedding.from_peers, embedding.computed) == (1, len(embedder.asked))
    assert peers.asked[0] == {text_digest(text): "far"}


@pytest.mark.parametrize("owners", ["abb", "bab", "bba"])
def test_a_text_of_several_owners_is_the_first_one_s_to_embed(owners: str, entry: MakeEntry) -> None:
    peers = Peers()
    index, embedding = made(Recording(), peers)
    for number, owner in enumerate(owners):
        index.put(
            entry(f"own_{number}", f"Number {number}.", owner=owner, server="clock", server_description="Clocks.")
        )
    for owner in owners:
        index.put(entry("now", "Tell the time.", owner=owner, server="clock", server_description="Clocks."))
    run(embedding)
    asked = {digest: owner for wanted in peers.asked for digest, owner in wanted.items()}
    server = "clock: Clocks."
    assert asked[text_digest("now: Tell the time.")] == asked[text_digest(server)] == "a"
    assert asked[text_digest(f"own {owners.index('b')}: Number {owners.index('b')}.")] == "b"


def test_vectors_of_another_width_that_were_kept_are_made_anew(entry: MakeEntry) -> None:
    """Of an endpoint whose model was exchanged behind its name."""
    index, embedding = made(HashingEmbedder(64))
    store = MemoryStore()
    store.open()
    index.put(entry("now", "Tell the time."))
    run(embedding)
    text = "now: Tell the time."
    store.put([text_digest(text)], np.ones((1, 64), np.float32) / 8)
    embedding = Embedding(HashingEmbedder(32), store, None, index, lambda work: work())
    embedding.load()
    assert index.waits(ToolKey("eu-1", "tools", "now"))
    assert index.pending == 1
    run(embedding)
    assert embedding.from_store == index.pending == 0
    assert index.dense is not None
    assert (index.dense.dimensions, len(index.dense)) == (32, 1)


def test_what_its_owner_is_embedding_waits_and_holds_up_nothing_else(entry: MakeEntry) -> None:
    now = [0.0]
    peers = Peers(patience=3)
    embedder = Recording()
    index, embedding = made(embedder, peers, clock=lambda: now[0])
    index.put(entry("now", "Tell the time.", owner="far", server="clock"))
    assert embedding.step() is Progress.WORKED
    assert embedding.step() is Progress.WAITS
    assert embedder.asked == []
    asked = len(peers.asked)
    assert embedding.step() is Progress.WAITS
    assert len(peers.asked) == asked
    while embedding.step() is not Progress.DONE:
        now[0] += embedding_module.ASK_AGAIN_S
    assert index.pending == 0
    assert len(peers.asked) > asked


def test_a_text_that_trips_the_model_up_costs_itself_only(entry: MakeEntry, caplog: pytest.LogCaptureFixture) -> None:
    class Picky(HashingEmbedder):
        def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
            if any("poison" in text for text in texts):
                raise ValueError("cannot take this")
            return super().embed(texts)

    index, embedding = made(Picky())
    for name in ("good", "poison", "better"):
        index.put(entry(name, "A tool."))
    run(embedding)
    assert index.pending == 0
    assert index.dense is not None
    assert len(index.dense) == 2
    assert "poison" in caplog.text


def test_vectors_that_are_none_are_refused(entry: MakeEntry) -> None:
    class Broken(HashingEmbedder):
        def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
            return np.full((len(texts), 4), np.nan, dtype=np.float32)

    index, embedding = made(Broken())
    index.put(entry("now"))
    with pytest.raises(Unavailable, match="no sound vectors"):
        embedding.step()
    assert index.pending == 1


def test_a_document_that_goes_while_it_is_embedded_leaves_nothing(entry: MakeEntry) -> None:
    embedder = Recording()
    index, embedding = made(embedder)
    one, other = entry("now", "Tell the time."), entry("bake", "Bake a cake.")
    index.put(one)

    def replaced() -> None:
        # The new one gets the row of the old.
        embedder.meanwhile = lambda: None
        index.delete(one.key)
        index.put(other)

    embedder.meanwhile = replaced
    embedding.step()
    assert index.waits(other.key)
    run(embedding)
    assert not index.waits(other.key)
    assert index.dense is not None
    assert len(index.dense) == 1
