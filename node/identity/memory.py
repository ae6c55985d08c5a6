"""What has been proved lately, kept for as long as it holds, under a digest of what proved it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memory(Generic[T]):
    """At `most` entries the one used longest ago is forgotten: it is proved anew when it comes again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[bytes, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Memory({len(self._known)} of {self._most})"

    def get(self, digest: bytes, now_s: float) -> T | None:
        found = self._known.get(digest)
        if found is None:
            return None
        if now_s >= found[1]:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return found[0]

    def put(self, digest: bytes, value: T, until_s: float) -> None:
        self._known[digest] = (value, until_s)
        self._known.move_to_end(digest)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Forget what is not wanted any more."""
        for digest in [digest for digest, (value, _) in self._known.items() if not wanted(value)]:
            del self._known[digest]
