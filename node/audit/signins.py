"""Refused sign-ins: each is told, until there are so many from one address that they are counted instead.

So an attacker who guesses keys leaves a trace of every minute, and cannot fill the disk with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node.audit.entries import SigninEntry, now_ms
from node.audit.port import Audit
from node.ports import Authenticator, Credentials
from proto.errors import ScopeRequired, Unauthenticated
from proto.records import Principal

WINDOW_MS = 60_000
TOLD_MAX = 5
"""Of one address in one window, one by one."""
ADDRESSES_MAX = 1_000
ELSEWHERE = "others"
"""Stands for the addresses beyond that: an attacker with many leaves one count."""


@dataclass(slots=True)
class _Window:
    first_ms: int
    told: int = 0
    counted: int = 0
    scheme: str = ""
    reason: str = ""


class Signins:
    """`put` takes what is to be recorded. Told of refusals on the loop; `tend` ends windows that are over."""

    def __init__(self, put: Callable[[SigninEntry], None], wall_ms: Callable[[], int] = now_ms) -> None:
        self._put = put
        self._wall_ms = wall_ms
        self._windows: dict[str, _Window] = {}
        self._swept_ms = 0

    def __repr__(self) -> str:
        return f"Signins({len(self._windows)} addresses)"

    def refused(self, address: str, scheme: str, reason: str) -> None:
        now = self._wall_ms()
        self.tend()
        window = self._windows.get(address)
        if window is None:
            if len(self._windows) >= ADDRESSES_MAX:
                address = ELSEWHERE
            window = self._windows.setdefault(address, _Window(now))
        if window.told < TOLD_MAX:
            window.told += 1
            self._put(SigninEntry(now, address, scheme, reason))
            return
        window.counted += 1
        window.scheme, window.reason = scheme, reason

    def tend(self) -> None:
        """Now and then; does something once in a quarter of a window."""
        now = self._wall_ms()
        if self._windows and not 0 <= now - self._swept_ms < WINDOW_MS // 4:
            self.sweep(now)

    def sweep(self, now_ms: int, *, all_of_them: bool = False) -> None:
        """Tell the counts of the windows that are over, or of all."""
        self._swept_ms = now_ms
        for address, window in list(self._windows.items()):
            if all_of_them or now_ms - window.first_ms >= WINDOW_MS or now_ms < window.first_ms:
                del self._windows[address]
                if window.counted:
                    told = SigninEntry(now_ms, address, window.scheme, window.reason, window.counted, window.first_ms)
                    self._put(told)


class AuditedAuthenticator:
    """An `Authenticator` whose refusals are recorded, whichever door asks it."""

    def __init__(self, authenticator: Authenticator, audit: Audit) -> None:
        self._authenticator = authenticator
        self._audit = audit

    def __repr__(self) -> str:
        return repr(self._authenticator)

    async def authenticate(self, credentials: Credentials) -> Principal:
        try:
            return await self._authenticator.authenticate(credentials)
        except (Unauthenticated, ScopeRequired) as e:
            # What the caller is told may keep the reason back.
            self._audit.signin(credentials.peer, scheme_of(credentials), e.rule or e.message)
            raise

    def valid(self, principal: Principal) -> bool:
        return self._authenticator.valid(principal)

    def principals(self) -> Mapping[str, Principal]:
        return self._authenticator.principals()


def scheme_of(credentials: Credentials) -> str:
    """What was presented, in one word; the strongest first."""
    shown = (
        ("bearer", credentials.bearer),
        ("basic", credentials.basic),
        ("key", credentials.api_key),
        ("certificate", credentials.certificate),
    )
    return next((scheme for scheme, there in shown if there), "none")
