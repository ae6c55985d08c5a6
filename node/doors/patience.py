"""Bodies that do not come to their end: their connections are closed, whichever route was to read them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping

from aiohttp import web

log = logging.getLogger("toolmesh.doors")


Reading = tuple[web.BaseRequest, float]


class Patience:
    """Looks at the requests that are being read every third of `body_s`; `reading` says since when each is."""

    def __init__(self, reading: MutableMapping[int, Reading], body_s: float) -> None:
        self._reading = reading
        self._body_s = body_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._body_s / 3, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for request, since_s in list(self._reading.values()):
            if request.content.is_eof():
                # All of it is there; how long its handler takes is another matter.
                self._reading.pop(id(request), None)
            elif now_s - since_s >= self._body_s * 2 / 3 and request.transport is not None:
                log.info("a body that did not end within %g s is given up", self._body_s)
                request.transport.abort()
        self.start()
