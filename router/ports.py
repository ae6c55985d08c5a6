"""What the router needs from outside: someone who turns text into vectors, and a place that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Text to unit vectors. Implementations import what they need late; `load` may take seconds."""

    @property
    def model_id(self) -> str:
        """Name and revision, stored beside each vector: vectors of different ids are never compared."""

    @property
    def dimensions(self) -> int: ...

    def load(self) -> None:
        """Read the weights. Raises `Unavailable` saying what to install. Runs in a worker thread, once."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32, shape (len(texts), dimensions), unit rows. Runs in worker threads, two at a time at most."""


class VectorStore(Protocol):
    """Durable, content-addressed vectors: (model, recipe, text digest) → vector. Called from a worker thread."""

    def open(self) -> None: ...

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]: ...

    def put(self, digests: Sequence[str], vectors: Vectors) -> None: ...

    def close(self) -> None: ...


class ToolKey(NamedTuple):
    """One tool of one server of one owner: `owner` is a node name, `server` the bare name there."""

    owner: str
    server: str
    tool: str


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """What the router knows of one tool. `definition` is the raw MCP tool object."""

    key: ToolKey
    definition: dict[str, Any]
    digest: bytes = b""
    region: str = ""
    server_title: str = ""
    server_description: str = ""
    service: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Who may see what: applied before ranking. Equal `key`: the same answer for every entry.

    `allows` is called from the router's searching thread, once per key and changed entry.
    """

    key: Hashable
    allows: Callable[[ToolEntry], bool]


EVERYTHING = Filter("everything", lambda _: True)


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search. `score` is 0 to 1, higher is better; `replicas` holds the other owners of the same
    declared service and definition."""

    entry: ToolEntry
    score: float
    replicas: tuple[ToolKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """`mode` is `hybrid` or `lexical`; `confidence` is `high`, `medium`, `low` or `none` (nothing seems to fit)."""

    hits: tuple[Hit, ...]
    mode: str
    confidence: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """For operators. `embedder` is empty, and `problem` says why, while search is lexical only."""

    tools: int
    embedded: int
    pending: int
    embedder: str
    mode: str
    problem: str = ""
