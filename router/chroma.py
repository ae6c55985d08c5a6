"""Vectors kept in Chroma: one collection for each (model, recipe), addressed by text digest.

Only kept: searching is done in memory, where filters come before ranking. So the graph that Chroma builds for its own
searches is the poorest that it allows, which makes a write nine times as fast.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router.digests import DigestSet
from router.documents import RECIPE
from router.ports import Vectors

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

log = logging.getLogger("toolmesh.router")

BATCH = 500
"""Vectors of one read or write. Chroma takes some 5,000 at a time, and is slower at many small writes."""

PAGE = 5_000
"""Names of vectors of one step of a sweep."""

UNIT_TOLERANCE = 1e-2
USED = "used"
"""Metadata of a vector: the last day (since 1970, UTC) on which it was known to be used."""

PREFIX = "tools-"
_POOR_GRAPH = {"hnsw": {"ef_construction": 4, "ef_search": 4, "max_neighbors": 2, "num_threads": 1}}


def days() -> int:
    return int(time.time() // 86_400)


class Chroma(ABC):
    """A `keeping.Shelf`: what a directory and a server have in common. Connected at first need; for one thread.

    Calls raise `Unavailable` while closed or when Chroma fails; the next one connects anew.
    """

    keep_days: int
    """A vector that nobody has used for more days is swept."""

    def __init__(self, model_id: str, *, recipe: str = RECIPE, today: Callable[[], int] = days) -> None:
        self._name = collection_name(model_id, recipe)
        self._about = {"model": model_id, "recipe": recipe}
        self._today = today
        self._opened = False
        self._client: ClientAPI | None = None
        self._collection: Collection | None = None

    @abstractmethod
    def _connect(self) -> ClientAPI: ...

    def open(self) -> None:
        """From now on calls are answered."""
        self._opened = True

    def close(self) -> None:
        self.rest()
        self._opened = False

    def rest(self) -> None:
        """Let go of the connection, and of the memory behind it, until the next call."""
        client, self._client, self._collection = self._client, None, None
        if client is not None:
            # `Client` has it, its interface `ClientAPI` does not.
            client.close()  # type: ignore[attr-defined]

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Those that are known, read in batches of 500. What is no unit vector is damaged, and not known."""
        collection = self._used()
        found: dict[str, NDArray[np.float32]] = {}
        for begin in range(0, len(digests), BATCH):
            ids = list(dict.fromkeys(digests[begin : begin + BATCH]))
            answer = ask(collection.get, ids=ids, include=["embeddings"])
            for digest, vector in zip(answer["ids"], answer["embeddings"], strict=True):
                found[digest] = np.asarray(vector, dtype=np.float32)
        return {d: v for d, v in found.items() if is_unit(v)}

    def put(self, digests: Sequence[str], vectors: Vectors) -> None:
        """Written in batches of 500; a digest that is there already is written again, to the same effect."""
        collection = self._used()
        if len(digests) != len(vectors):
            raise ValueError(f"{len(digests)} digests for {len(vectors)} vectors")
        for begin in range(0, len(digests), BATCH):
            # One id twice in a request is an error to Chroma.
            rows = {d: begin + i for i, d in enumerate(digests[begin : begin + BATCH])}
            embeddings = np.asarray(vectors[list(rows.values())], dtype=np.float32)
            stamps = [{USED: self._today()}] * len(rows)
            ask(collection.upsert, ids=list(rows), embeddings=embeddings, metadatas=stamps)

    def sweeping(self, used: DigestSet) -> Iterator[int]:
        """Stamp what is used, then delete what nobody has used for `keep_days`, a slice a step: vectors deleted.

        Others of the same server stamp what they use, so nobody's sweep takes what another one needs.
        """
        today = self._today()
        yield from self._stamp(used, today)
        collection = self._used()
        while old := ask(collection.get, where={USED: {"$lt": today - self.keep_days}}, limit=BATCH, include=[])["ids"]:
            ask(collection.delete, ids=old)
            yield len(old)
        yield self._sweep_collections(today)

    def _stamp(self, used: DigestSet, today: int) -> Iterator[int]:
        offset = 0
        while True:
            collection = self._used()
            page = ask(collection.get, limit=PAGE, offset=offset, include=["metadatas"])
            if not page["ids"]:
                return
            offset += len(page["ids"])
            living = used.has(page["ids"])
            each = zip(page["ids"], page["metadatas"], living, strict=True)
            stale = [d for d, metadata, lives in each if lives and (metadata or {}).get(USED, 0) < today]
            for begin in range(0, len(stale), BATCH):
                ids = stale[begin : begin + BATCH]
                ask(collection.update, ids=ids, metadatas=[{USED: today}] * len(ids))
                yield 0
            yield 0

    def _sweep_collections(self, today: int) -> int:
        """Of other models and recipes: who uses them stamps them when it connects, and in its own daily sweep."""
        self._used()
        assert self._client is not None  # noqa: S101 - used just now
        self._collection = self._find(self._client)
        swept = 0
        for other in ask(self._client.list_collections):
            stamp = (other.metadata or {}).get(USED)
            if other.name.startswith(PREFIX) and isinstance(stamp, int) and stamp < today - self.keep_days:
                swept += ask(other.count)
                ask(self._client.delete_collection, name=other.name)
        return swept

    def _check(self) -> None:
        if not self._opened:
            raise Unavailable("the vector store is closed; open it first")

    def _used(self) -> Collection:
        self._check()
        if self._collection is None:
            self._client = self._connect()
            self._collection = self._find(self._client)
        return self._collection

    def _find(self, client: ClientAPI) -> Collection:
        """This model's collection, stamped as used today."""
        about = {**self._about, USED: self._today()}
        collection: Collection = ask(
            client.get_or_create_collection,
            name=self._name,
            metadata=about,
            configuration=_POOR_GRAPH,
            embedding_function=None,
        )
        if (collection.metadata or {}).get(USED) != about[USED]:
            ask(collection.modify, metadata=about)
        return collection


def collection_name(model_id: str, recipe: str) -> str:
    """Chroma takes 3 to 512 of `[a-zA-Z0-9._-]`; the hash keeps models apart that look alike after rewriting."""
    safe = re.sub(r"[^a-zA-Z0-9]+", "-", model_id).strip("-")[:60]
    tag = hashlib.sha256(f"{model_id}\0{recipe}".encode()).hexdigest()[:8]
    return f"{PREFIX}{safe}-{tag}"


def is_unit(vector: NDArray[Any]) -> bool:
    """Finite, and of length one within 1e-2: what an embedder gives, and hardly anything else does."""
    length = float(np.linalg.norm(vector.astype(np.float32)))
    return abs(length - 1.0) <= UNIT_TOLERANCE


def ask(method: Callable[..., Any], **arguments: Any) -> Any:
    """The one place where Chroma's many exception types become ours: `Unavailable`."""
    try:
        return method(**arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:
        # A damaged file makes its Rust core panic, and PanicException is no Exception.
        raise Unavailable(f"Chroma failed: {_told(e)}") from e


def _told(error: BaseException) -> str:
    """What it says, and what the error behind it does: of a refused certificate Chroma says only that it failed."""
    root = error
    while (behind := root.__cause__ or root.__context__) is not None:
        root = behind
    said = dict.fromkeys(
        f"{type(e).__name__}: {' '.join(str(e).split())[:300]}" for e in (error, root) if str(e).strip()
    )
    return "; ".join(said) or type(error).__name__


def imported() -> Any:
    """The package, which takes half a second the first time. Raises `Unavailable`."""
    try:
        import chromadb
    except ImportError as e:
        raise Unavailable(f"Chroma cannot be imported ({e}): pip install chromadb") from None
    return chromadb
