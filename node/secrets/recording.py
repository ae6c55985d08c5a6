"""Puts what operators did to the store by hand, with the node running or not, into the node's audit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from node.audit.port import Audit
from node.secrets.acts import Act
from node.secrets.sqlite import SqliteSecrets
from proto.errors import MeshError
from proto.records import Principal

log = logging.getLogger("toolmesh.secrets")

EVERY_S = 5.0


class ActsOnRecord:
    """Looks at `file` every `EVERY_S` seconds, and reads it only when it has changed.

    An act is taken out of the file one look after it was recorded: a node that is killed meanwhile records it again,
    with the same number, rather than never. `opened` makes the store; each look has one of its own, in a thread.
    """

    def __init__(self, file: Path, opened: Callable[[], SqliteSecrets], audit: Audit) -> None:
        self._file = file
        self._opened = opened
        self._audit = audit
        self._seen: tuple[int, int] | None = None
        self._told = 0
        self._forgotten = 0
        self._problem = ""
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looking = asyncio.create_task(self._look_on(), name="secrets on record")

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def look(self) -> None:
        """Raises `Unavailable` where the store cannot be read."""
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            return
        now = (stat.st_mtime_ns, stat.st_size)
        if now == self._seen and self._told == self._forgotten:
            return
        told = self._told
        acts = await asyncio.to_thread(self._read, told)
        self._seen, self._forgotten = now, told
        for number, act in acts:
            self._record(number, act)
            self._told = number

    def _read(self, told: int) -> list[tuple[int, Act | None]]:
        store = self._opened()
        try:
            if told > self._forgotten:
                store.forget_acts(told)
            return store.acts(told)
        finally:
            store.close()

    def _record(self, number: int, act: Act | None) -> None:
        if act is None:
            reason = f"act {number} in {self._file.name} does not open: it was written without the key"
            self._audit.system("secrets", reason=reason)
            log.warning("%s", reason)
            return
        at = datetime.fromtimestamp(act.at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        who = Principal(act.by, "os", kind="user", credential=f"os/{act.by}")
        self._audit.admin(who, f"secrets {act.verb}", act.name or "all", reason=f"act {number}, by hand at {at}")

    async def _look_on(self) -> None:
        while True:
            problem = ""
            try:
                await self.look()
            except MeshError as e:
                problem = e.message
            except Exception as e:
                problem = f"{type(e).__name__}: {e}"
            if problem != self._problem:
                self._problem = problem
                if problem:
                    log.warning("changes of secrets are not put on record: %s", problem)
            await asyncio.sleep(EVERY_S)
