"""Servers of the catalogue that wait for an approver: who asked for them, and what was decided."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from proto import jsons
from proto.errors import Invalid, Unavailable, Unknown
from proto.records import Principal

if TYPE_CHECKING:
    from node.settings.servers import ServerConfig

FILE = "approvals.db"
"""In `node.data_dir`."""
ASKERS_MAX = 16
"""Kept of each server; that more have asked is kept, too."""
TEXT_CHARACTERS_MAX = 200
_SCHEMA = 1

State = Literal["unasked", "waiting", "approved", "denied"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody who may add the server; `at_ms` (unix) is when it asked first."""

    subject: str
    issuer: str
    tenant: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Approval:
    """`definition` is a digest of the catalogue's entry as it was asked for or decided. `by` decided, at `at_ms`."""

    server: str
    definition: str
    state: State = "unasked"
    askers: tuple[Asker, ...] = ()
    more: bool = False
    by: str = ""
    at_ms: int = 0
    reason: str = ""


class Approvals:
    """Of the entries of `catalogue` with `approval: true`; all others may be added at once.

    An entry that is changed has been approved by nobody. Written before a method returns, so a node that starts again
    knows what was decided. At most one row for each name that the catalogue has had. Raises `Unavailable` naming the
    file where it cannot be used.
    """

    def __init__(
        self, file: Path, catalogue: Mapping[str, ServerConfig], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file
        self._definitions = {name: _definition(server) for name, server in catalogue.items() if server.approval}
        self._clock = clock
        self._known: dict[str, Approval] = {}
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Before anything else; makes no file where nothing waits for an approver."""
        if not self._definitions or self._db is not None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._file, isolation_level=None, timeout=5)
        except (OSError, sqlite3.Error) as e:
            raise self._unavailable(e) from None
        try:
            (found,) = db.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA:
                raise Unavailable(f"{self._file} was written by a newer toolmesh (schema {found}); upgrade this node")
            db.execute("CREATE TABLE IF NOT EXISTS approvals (server TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT")
            db.execute(f"PRAGMA user_version = {_SCHEMA}")
            for server, body in db.execute("SELECT server, body FROM approvals"):
                approval = _read(server, jsons.loads_object(body, f"{server} in {self._file}"))
                if approval.definition == self._definitions.get(server):
                    self._known[server] = approval
        except (sqlite3.Error, KeyError, TypeError, Invalid) as e:
            db.close()
            raise self._unavailable(e) from None
        except Unavailable:
            db.close()
            raise
        self._db = db

    def all(self) -> list[Approval]:
        """By name, those that nobody has asked for, too."""
        return [self._of(name) for name in sorted(self._definitions)]

    def admits(self, name: str) -> bool:
        """May that server be brought in?"""
        return name not in self._definitions or self._of(name).state == "approved"

    def ask(self, name: str, principal: Principal) -> Approval:
        """Keep that this principal wants it. What was decided stands: whoever asks again changes nothing."""
        approval = self._of(name)
        if approval.state in ("approved", "denied"):
            return approval
        if any((a.issuer, a.tenant, a.subject) == principal.identity for a in approval.askers):
            return approval
        if len(approval.askers) < ASKERS_MAX:
            asker = Asker(principal.subject, principal.issuer, principal.tenant, self._now_ms())
            return self._keep(replace(approval, state="waiting", askers=(*approval.askers, asker)))
        return approval if approval.more else self._keep(replace(approval, more=True))

    def decide(self, name: str, approved: bool, by: Principal, reason: str = "") -> tuple[Approval, Approval]:
        """Before and after. Raises `Unknown` for what needs no approval, `Invalid` for a reason that is too long."""
        if name not in self._definitions:
            raise Unknown(
                f"no server {name!r} of this node's catalogue has 'approval: true'; 'toolmesh approvals' lists"
            )
        if len(reason) > TEXT_CHARACTERS_MAX:
            raise Invalid(f"'reason' is longer than {TEXT_CHARACTERS_MAX} characters; shorten it")
        before = self._of(name)
        state: State = "approved" if approved else "denied"
        if before.state == state:
            return before, before
        return before, self._keep(replace(before, state=state, by=by.subject, at_ms=self._now_ms(), reason=reason))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _of(self, name: str) -> Approval:
        return self._known.get(name) or Approval(name, self._definitions[name])

    def _keep(self, approval: Approval) -> Approval:
        if self._db is None:
            raise Unavailable(f"{self._file} is not open")
        body = {k: v for k, v in asdict(approval).items() if k != "server"}
        try:
            self._db.execute("INSERT OR REPLACE INTO approvals VALUES (?, ?)", (approval.server, jsons.dumps(body)))
        except sqlite3.Error as e:
            raise self._unavailable(e) from None
        self._known[approval.server] = approval
        return approval

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"{self._file} cannot be used: {error}; check the directory, its rights and the disk")

    def __repr__(self) -> str:
        return f"Approvals({len(self._definitions)} servers)"


def _definition(server: ServerConfig) -> str:
    # Secrets are asterisks here; what is left at its default is left out, so that a release may add settings.
    return hashlib.sha256(jsons.canonical(server.model_dump(mode="json", exclude_defaults=True))).hexdigest()


def _read(server: str, body: dict[str, Any]) -> Approval:
    askers = tuple(Asker(**asker) for asker in body.pop("askers"))
    return Approval(server, askers=askers, **body)
