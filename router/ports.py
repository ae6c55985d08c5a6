"""What the router needs from outside: someone who turns text into vectors, and a place that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
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

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """float32, shape (len(texts), dimensions), unit rows. Runs in worker threads, two at a time at most.

        `query`: the texts are what somebody asks, not what is found; some models want them told apart. Raises
        `Unavailable` while it cannot; the texts are tried again later.
        """


class VectorStore(Protocol):
    """Durable, content-addressed vectors: (model, recipe, text digest) → vector. Called from a worker thread."""

    def open(self) -> None: ...

    def get(self, digests: Sequence[str]) -> dict[str, NDArray[np.float32]]: ...

    def put(self, digests: Sequence[str], vectors: Vectors) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Lent:
    """Unit vectors by text digest, and the digests of texts whose owner is embedding them itself: ask again later."""

    found: dict[str, NDArray[np.float32]]
    later: frozenset[str] = frozenset()


class VectorSource(Protocol):
    """Others who may have computed a vector already. Called from a worker thread; bounds its own time."""

    def get(self, wanted: Mapping[str, str]) -> Lent:
        """`wanted`: text digest → node that offers a tool with this text. Never raises; what is neither found nor to
        come later is computed here."""


class ToolKey(NamedTuple):
    """One tool of one server of one owner: `owner` is a node name, `server` the bare name there.

    `kind` is `tool`, `prompt`, `resource` or `template`; what is said of tools in this package holds for all four.
    """

    owner: str
    server: str
    tool: str
    kind: str = "tool"


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """What the router knows of one tool. `definition` is the raw MCP object, `digest` that of its canonical form."""

    key: ToolKey
    definition: dict[str, Any]
    digest: bytes = b""
    region: str = ""
    server_title: str = ""
    server_description: str = ""
    service: str = ""
    labels: dict[str, str] = field(default_factory=dict)


At = tuple[str, str]
"""(owner, server): what the beginning of a `ToolKey` names."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Of what may be seen, what a search is among: of the servers `only`, where it is not None, `without` others."""

    only: frozenset[At] | None = None
    without: frozenset[At] = frozenset()


@dataclass(frozen=True, slots=True)
class Filter:
    """Who may see what: applied before ranking. Equal `key`: the same answer of `allows` for every entry.

    `allows` is called from the router's searching thread, once per key and changed entry, not again for each search.
    `narrowed` may be another in each search, and costs well below a millisecond.
    """

    key: Hashable
    allows: Callable[[ToolEntry], bool]
    narrowed: Narrowing | None = None


EVERYTHING = Filter("everything", lambda _: True)

Prefer = Callable[[ToolEntry], float]
"""-1 to 1, a gentle tie-breaker for the best hits; called from the router's searching thread."""


@dataclass(frozen=True, slots=True)
class Why:
    """What a hit's score is made of, in weighted z-scores that add up to it; 0 where a part had no say.

    `words_rank` and `meaning_rank` are its places among the candidates in either arm, from 1; 0: not in that arm.
    """

    words: float = 0.0
    meaning: float = 0.0
    server: float = 0.0
    clauses: float = 0.0
    name: float = 0.0
    feedback: float = 0.0
    preference: float = 0.0
    words_rank: int = 0
    meaning_rank: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search. `score` is 0 to 1, higher is better; `replicas` holds the other owners of the same
    declared service and definition, `alike` near-identical tools that gave up their places to this one; `why` is
    there if the search asked for it."""

    entry: ToolEntry
    score: float
    replicas: tuple[ToolKey, ...] = ()
    why: Why | None = None
    alike: tuple[ToolKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """`mode` is `hybrid` or `lexical`; `confidence` is `high`, `medium`, `low` or `none` (nothing seems to fit);
    `searched` counts the tools that the caller may see. `signals`, where the search asked why, are what the label is
    made of, by name, with `likely`, the likelihood from 0 to 1 that they come to."""

    hits: tuple[Hit, ...]
    mode: str
    confidence: str
    took_ms: float
    searched: int = 0
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """Of the whole task, where there is a model."""
    signals: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """For operators. `embedder` is empty, and `problem` says why, while search is lexical only. The last three count
    vectors since the start, by where they came from."""

    tools: int
    embedded: int
    pending: int
    embedder: str
    mode: str
    problem: str = ""
    from_store: int = 0
    from_peers: int = 0
    computed: int = 0
