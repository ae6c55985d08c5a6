"""The searching thread: the only one that touches the index, so that nothing needs a lock but what is handed over.

In turns: a slice of changes, all searches that wait (those of one view in one batch), one call of another thread.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from proto.errors import Unavailable
from router import retrieval
from router.feedback import Lift
from router.index import Index
from router.masks import SLICE, View
from router.ports import Filter, Prefer, ToolEntry, ToolKey, Vectors
from router.queries import Question
from router.retrieval import Found, Task

log = logging.getLogger("toolmesh.router")

CHANGES_A_TURN = 64
CHANGES_BEFORE_A_SEARCH = 1_000
"""A search sees all changes made before it, up to so many (some 100 ms of work); of a flood it sees the beginning."""
JUDGED_MEANWHILE = 64
TEXTS_A_BATCH = 32

Changes = Mapping[ToolKey, ToolEntry | None]
Encode = Callable[[Sequence[str]], Vectors | None]
Learned = Callable[[NDArray[np.float32], str], Sequence[Lift]]
T = TypeVar("T")


@dataclass(slots=True)
class Asked:
    """A search that waits for its turn."""

    question: Question
    k: int
    only: Filter
    prefer: Prefer | None = None
    principal: str = ""
    explain: bool = False
    answer: Future[tuple[Found, Vectors | None]] = field(default_factory=Future)


class Desk:
    """`encode` turns texts into vectors, or says None while that cannot be; `learned` tells what use has taught for a
    query's vector and a principal. Held until `release`: changes and searches wait, calls are made."""

    def __init__(self, index: Index, encode: Encode, learned: Learned, model: str = "") -> None:
        """`model` is the id of what `encode` encodes with."""
        self._index = index
        self._model = model
        self._encode = encode
        self._learned = learned
        self._awake = threading.Condition()
        self._inbox: dict[ToolKey, ToolEntry | None] = {}
        self._draining: Iterator[tuple[ToolKey, ToolEntry | None]] = iter(())
        self._undrained = 0
        self._asked: deque[Asked] = deque()
        self._calls: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._held = True
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="toolmesh-search", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Desk({len(self._asked)} searches, {self.changes} changes, {len(self._calls)} calls)"

    # ---- from any thread -------------------------------------------------------------------------

    @property
    def changes(self) -> int:
        """How many wait."""
        return len(self._inbox) + self._undrained

    def change(self, changes: Changes) -> None:
        """None: gone. What waits holds each tool twice at most, so its bound is the number of tools."""
        with self._awake:
            self._inbox.update(changes)
            self._awake.notify()

    def holds(self, key: ToolKey) -> bool:
        """Whether a change of this tool waits; as of now."""
        return key in self._inbox

    def search(self, asked: Asked) -> Future[tuple[Found, Vectors | None]]:
        with self._awake:
            if self._stopped:
                raise Unavailable("this node is shutting down and searches no more")
            self._asked.append(asked)
            self._awake.notify()
        return asked.answer

    def call(self, work: Callable[[], T]) -> T:
        """Waits for the work to be done on the searching thread. Raises what it raises; `Unavailable` once stopped."""
        answer: Future[object] = Future()
        with self._awake:
            if self._stopped:
                raise Unavailable("the router has been stopped")
            self._calls.append((work, answer))
            self._awake.notify()
        return answer.result()  # type: ignore[return-value]

    def settle(self) -> None:
        """Waits until the changes made before are in the index; from the embedding thread."""
        while self.changes:
            self.call(lambda: self._change(CHANGES_A_TURN))

    def release(self) -> None:
        with self._awake:
            self._held = False
            self._awake.notify()

    def stop(self) -> None:
        """What waits is refused; then the thread ends. Idempotent."""
        with self._awake:
            self._stopped = True
            self._awake.notify()
        self._thread.join()

    # ---- on the searching thread -----------------------------------------------------------------

    def _run(self) -> None:
        waiting: list[Asked] = []
        while True:
            with self._awake:
                while not (self._stopped or self._calls or self._has_work(waiting)):
                    self._awake.wait()
                if self._stopped:
                    break
                held = self._held
                if not held:
                    waiting += self._asked
                    self._asked.clear()
                call = self._calls.popleft() if self._calls else None
            if not held:
                self._change(CHANGES_BEFORE_A_SEARCH if waiting else CHANGES_A_TURN)
                waiting = self._answer(waiting)
            if call is not None:
                _settle(call[1], call[0])
        refused = Unavailable("this node is shutting down and searches no more")
        for asked in (*waiting, *self._asked):
            _refuse(asked, refused)
        for _, answer in self._calls:
            answer.set_exception(refused)

    def _has_work(self, waiting: list[Asked]) -> bool:
        return not self._held and bool(waiting or self._asked or self.changes)

    def _change(self, most: int) -> None:
        """Brings the next changes into the index."""
        if not self._undrained:
            with self._awake:
                self._draining, self._undrained, self._inbox = iter(self._inbox.items()), len(self._inbox), {}
        for key, entry in islice(self._draining, most):
            self._undrained -= 1
            try:
                if entry is None:
                    self._index.delete(key)
                else:
                    self._index.put(entry)
            except Exception:
                # One entry that trips over a fault of ours costs itself, not the search for all others.
                log.exception("%s cannot be indexed", "/".join(key))

    def _answer(self, waiting: list[Asked]) -> list[Asked]:
        """Answers those whose view is at hand; returns the others. One view that takes long is judged a slice."""
        groups: dict[int, tuple[View, list[Asked]]] = {}
        later: list[Asked] = []
        budget = SLICE
        texts = 0
        for asked in waiting:
            if texts >= TEXTS_A_BATCH:
                later.append(asked)
                continue
            if asked.answer.cancelled():
                continue
            try:
                view = self._index.masks.view(asked.only, self._index.slots, budget)
            except Exception as e:
                _refuse(asked, e)
                continue
            if view is None:
                later.append(asked)
                budget = JUDGED_MEANWHILE
            else:
                texts += len(asked.question.texts)
                groups.setdefault(id(view), (view, []))[1].append(asked)
        for view, group in groups.values():
            self._search(view, group)
        return later

    def _search(self, view: View, group: list[Asked]) -> None:
        try:
            tasks = [self._task(asked) for asked in group]
            found = retrieval.search(self._index, tasks, view)
        except Exception as e:
            if len(group) == 1:
                _refuse(group[0], e)
                return
            # Whoever is at fault shall not take the others along.
            for asked in group:
                self._search(view, [asked])
            return
        for asked, task, each in zip(group, tasks, found, strict=True):
            _give(asked.answer, (each, task.vectors))

    def _task(self, asked: Asked) -> Task:
        q = asked.question
        vectors = self._encode(q.meanings)
        lifts = () if vectors is None else self._learned(vectors[0], asked.principal)
        return Task(q.texts, q.names, q.task, asked.k, vectors, asked.prefer, lifts, asked.explain, self._model)


def _settle(answer: Future[object], work: Callable[[], object]) -> None:
    try:
        answer.set_result(work())
    except Exception as e:
        answer.set_exception(e)


def _refuse(asked: Asked, error: Exception) -> None:
    if asked.answer.set_running_or_notify_cancel():
        asked.answer.set_exception(error)


def _give(answer: Future[T], value: T) -> None:
    # Who asked may have gone meanwhile.
    if answer.set_running_or_notify_cancel():
        answer.set_result(value)
