"""Browsers that have signed in: who each is, for a quarter of an hour, and proof that a form is our own.

A session's id is a random 256-bit value in a cookie; here lies its digest. A browser that has not signed in yet has a
visit, of which nothing is kept: its cookie holds a random value, and what a form must repeat follows from that.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from proto.records import Principal

SESSION_S = 900.0
"""From sign-in to the end, whatever is done meanwhile."""
SESSIONS_MAX = 1_000
"""At a time; beyond it the oldest ends."""
SESSIONS_OF_ONE_MAX = 8
"""Of one person; beyond it the oldest ends."""
ID_CHARS_MAX = 128

SESSION_COOKIE = "__Host-toolmesh"
VISIT_COOKIE = "__Host-toolmesh-visit"
"""`__Host-`: browsers take it only with Secure, for this host alone and for all paths (RFC 6265bis §4.1.3.2)."""


@dataclass(frozen=True, slots=True)
class Session:
    """`key` names it in this process, and is not what the browser holds. `expires` is monotonic."""

    key: str
    principal: Principal
    expires: float


class Sessions:
    """`clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._secret = secrets.token_bytes(32)

    def __repr__(self) -> str:
        return f"Sessions({len(self._open)} open)"

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, principal: Principal) -> str:
        """A new session, always with a new id: that of a visit is worth nothing afterwards. Returns the id."""
        now = self._clock()
        for key in [k for k, s in self._open.items() if s.expires <= now]:
            del self._open[key]
        mine = [k for k, s in self._open.items() if s.principal.identity == principal.identity]
        for key in mine[: max(0, len(mine) - SESSIONS_OF_ONE_MAX + 1)]:
            del self._open[key]
        while len(self._open) >= SESSIONS_MAX:
            self._open.popitem(last=False)
        session_id = new_id()
        key = key_of(session_id)
        self._open[key] = Session(key, principal, now + SESSION_S)
        return session_id

    def find(self, session_id: str) -> Session | None:
        session = self._open.get(key_of(session_id)) if 0 < len(session_id) <= ID_CHARS_MAX else None
        return session if session is not None and session.expires > self._clock() else None

    def end(self, key: str) -> None:
        self._open.pop(key, None)

    def form_token(self, cookie: str) -> str:
        """What every form that is shown to the holder of this cookie must send back."""
        return hmac.new(self._secret, cookie.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def is_own_form(self, cookie: str, token: str) -> bool:
        good = 0 < len(cookie) <= ID_CHARS_MAX and len(token) == 64 and token.isascii()
        return good and hmac.compare_digest(self.form_token(cookie), token)


def new_id() -> str:
    return secrets.token_urlsafe(32)


def key_of(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
