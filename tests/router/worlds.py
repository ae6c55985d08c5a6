"""An index with a model, without threads: for tests of what is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.embedding import Embedding, Progress
from router.index import Index
from router.memory import HashingEmbedder
from router.ports import EVERYTHING, Filter, ToolEntry
from router.queries import question
from router.retrieval import Found, Task, search


class World:
    def __init__(self, entries: Sequence[ToolEntry] = ()) -> None:
        self.index = Index()
        self.embedder = HashingEmbedder()
        self.embedding = Embedding(self.embedder, None, None, self.index, lambda work: work())
        self.embedding.load()
        for entry in entries:
            self.index.put(entry)
        self.embed()

    def embed(self) -> None:
        while self.embedding.step() is not Progress.DONE:
            pass

    def task(self, query: str, k: int = 10) -> Task:
        q = question(query, (), k)
        return Task(q.texts, q.names, q.task, k, self.embedder.embed(q.meanings), explain=True)

    def search(self, *queries: str, only: Filter = EVERYTHING, k: int = 10) -> list[Found]:
        """All at once."""
        view = self.index.masks.view(only, self.index.slots, 1_000_000)
        assert view is not None
        return search(self.index, [self.task(q, k) for q in queries], view)


def told(found: Found) -> object:
    """What a caller can tell apart, with scores to four digits."""
    return (
        [(h.entry.key, round(h.score, 3), h.replicas, h.alike) for h in found.hits],
        round(found.likely, 3),
        found.searched,
    )


def hiding(hidden: Callable[[ToolEntry], bool]) -> Filter:
    return Filter("some", lambda entry: not hidden(entry))
