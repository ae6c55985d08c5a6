"""An issuer that does not answer as it should: in the log as that begins and ends, and before operators meanwhile."""

from __future__ import annotations

import logging
import time

from federation.alarms import Raised

log = logging.getLogger("toolmesh.identity")

NAME = "issuer"


class Trouble:
    """`cause` is empty while all is well. `what` says what cannot be done meanwhile, and the mend."""

    def __init__(self, issuer: str, what: str) -> None:
        self.cause = ""
        self._issuer = issuer
        self._what = what
        self._raised: Raised | None = None

    def __repr__(self) -> str:
        return f"Trouble({self._issuer}: {self.cause or 'none'})"

    @property
    def alarms(self) -> tuple[Raised, ...]:
        return () if self._raised is None else (self._raised,)

    def comes(self, cause: str) -> None:
        """Once more, perhaps."""
        now_ms = int(time.time() * 1000)
        message = f"{self._what}: {cause}"
        if self._raised is None:
            self._raised = Raised(self._issuer, NAME, message, now_ms, now_ms)
            log.warning("issuer %s: %s", self._issuer, message)
        else:
            self._raised.message, self._raised.last_ms = message, now_ms
            self._raised.count += 1
        self.cause = cause

    def ends(self) -> None:
        if self._raised is not None:
            log.info("issuer %s answers again", self._issuer)
        self.cause, self._raised = "", None
