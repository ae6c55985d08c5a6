"""The way back of one HTTP request."""

from __future__ import annotations

import gc
import weakref
from typing import cast

from aiohttp import web

from node.ingress.holding import Post
from node.ingress.reply import Reply
from node.ingress.sessions import Session
from node.ingress.settings import IngressSettings


class Stand:
    """In place of a request, or of a session, that nothing is asked of here."""


async def test_a_request_of_a_session_is_let_go_without_the_garbage_collector() -> None:
    request = Stand()
    freed = weakref.ref(request)
    gc.disable()
    try:
        reply = Reply(cast(web.Request, request), IngressSettings(), True, promotes=False)
        Post(cast(Session, Stand()), reply, 60.0)
        reply.abandon()
        del request, reply

        assert freed() is None
    finally:
        gc.enable()
