"""People who send a name and a password with every request (RFC 7617), for small set-ups."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from node.identity.memory import Memory
from node.identity.passwords import CHARACTERS_MIN, PasswordHash
from node.settings.people import UserConfig
from proto.errors import Exhausted
from proto.records import Principal

AT_ONCE_MAX = 2
"""Passwords checked at once: each takes a core and tens of MiB for a while."""
WAITING_MAX = 32
"""Checks that run or wait; one more is refused with `RETRY_AFTER_S`."""
RETRY_AFTER_S = 2
REMEMBERED_S = 60.0
REMEMBERED_MAX = 1_000


class Users:
    """Right pairs are remembered for a minute, under a digest with a key of this process; wrong ones never."""

    def __init__(self, users: Sequence[UserConfig], mesh: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._users = {
            user.name: (
                PasswordHash.parse(user.password),
                Principal(
                    user.name, mesh, user.tenant, user.groups, user.scopes, "user", credential=f"user/{user.name}"
                ),
            )
            for user in users
        }
        costs = [(password.ln, password.p) for password, _ in self._users.values()]
        ln, p = max(costs, default=(0, 0))
        # What an unknown name is held against, so that it takes as long as a known one with a wrong password.
        nobody = secrets.token_urlsafe(CHARACTERS_MIN)
        self._nobody = PasswordHash(ln, p, secrets.token_bytes(16), hashlib.sha256(nobody.encode()).digest())
        self._key = secrets.token_bytes(32)
        self._known: Memory[Principal] = Memory(REMEMBERED_MAX)
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._now_s = now_s

    def __repr__(self) -> str:
        return f"Users({len(self._users)}, {self._waiting} checked now)"

    def __bool__(self) -> bool:
        return bool(self._users)

    def principals(self) -> Mapping[str, Principal]:
        return {name: principal for name, (_, principal) in self._users.items()}

    async def find(self, pair: str) -> Principal | None:
        """Who `USER:PASSWORD` is; None for whom there is not, or not with this password. Raises `Exhausted`."""
        if not self._users:
            return None
        digest = hmac.digest(self._key, pair.encode("utf-8", "surrogatepass"), "sha256")
        if (known := self._known.get(digest, self._now_s())) is not None:
            return known
        name, _, password = pair.partition(":")
        expected, principal = self._users.get(name, (self._nobody, None))
        if not await self._matches(expected, password) or principal is None:
            return None
        self._known.put(digest, principal, self._now_s() + REMEMBERED_S)
        return principal

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _matches(self, expected: PasswordHash, password: str) -> bool:
        if self._waiting >= WAITING_MAX:
            raise Exhausted("too many passwords are being checked; try again soon", retry_after_s=RETRY_AFTER_S)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="passwords")
        self._waiting += 1
        try:
            check = partial(expected.matches, password)
            return await asyncio.get_running_loop().run_in_executor(self._threads, check)
        finally:
            self._waiting -= 1
