"""The keys of one issuer as they are now: fetched, kept, fetched anew when a token names one that is not known."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from node.identity.jwks import PublicKey, fitting
from node.identity.trouble import Trouble
from proto.errors import MeshError, Unavailable

log = logging.getLogger("toolmesh.identity")

FRESH_S = 600.0
"""Keys older than this are fetched again in the background; at twice the age, while callers wait: so long does a key
that was taken away count at most."""
INTERVAL_S = 30.0
"""Whatever tokens name, the issuer is asked once in so long."""
RETRY_S = 5.0
"""The same while nothing was ever fetched."""
KEPT_S = 86_400.0
"""While the issuer cannot be reached, the keys that it gave last count for so long."""

Load = Callable[[], Awaitable[tuple[PublicKey, ...]]]


class KeySource:
    """`load` fetches all keys and raises `MeshError`; it never runs twice at once."""

    def __init__(self, issuer: str, load: Load, now_s: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._load = load
        self._now_s = now_s
        self._keys: tuple[PublicKey, ...] = ()
        self._loaded_s: float | None = None
        self._tried_s: float | None = None
        self.trouble = Trouble(issuer, "its keys cannot be fetched, and those it gave last end a day after that")
        self._loading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = f"{len(self._keys)} keys" if self._loaded_s is not None else "no keys yet"
        return f"KeySource({self._issuer}, {state}{', cannot be reached' if self.trouble.cause else ''})"

    async def fitting(self, kid: str, algorithm: str) -> list[PublicKey]:
        """Which keys may have signed a token; none: the issuer has no such key.

        Raises `Unavailable` where it cannot be asked and what it said before is too old, or may lack a new key.
        """
        now_s = self._now_s()
        if self._loaded_s is None or now_s - self._loaded_s >= KEPT_S:
            await self._refresh()
            if self.trouble.cause:
                raise self._unavailable()
        elif now_s - self._loaded_s >= 2 * FRESH_S:
            await self._refresh()
        elif now_s - self._loaded_s >= FRESH_S:
            self._start()
        fit = fitting(self._keys, kid, algorithm)
        if not fit:
            await self._refresh()
            fit = fitting(self._keys, kid, algorithm)
        if not fit and self.trouble.cause:
            raise self._unavailable()
        return fit

    def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()

    async def _refresh(self) -> None:
        """Until the fetch that runs, or one begun now, is over; at once where the last one was just now."""
        self._start()
        if self._loading is not None:
            # Whoever gives up waiting does not take it from the others.
            await asyncio.shield(self._loading)

    def _start(self) -> None:
        interval_s = RETRY_S if self._loaded_s is None else INTERVAL_S
        if self._loading is None and (self._tried_s is None or self._now_s() - self._tried_s >= interval_s):
            self._tried_s = self._now_s()
            self._loading = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            self._keys = await self._load()
            self._loaded_s = self._now_s()
            self.trouble.ends()
            log.info("issuer %s has %d keys", self._issuer, len(self._keys))
        except MeshError as e:
            self.trouble.comes(e.message)
        except Exception:
            self.trouble.comes("internal error")
            log.exception("the keys of issuer %s cannot be fetched", self._issuer)
        finally:
            self._loading = None

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            f"tokens of {self._issuer} cannot be checked now: its keys cannot be fetched; try again soon",
            retry_after_s=INTERVAL_S,
        )
