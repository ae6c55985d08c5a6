"""What is kept of tokens while the world changes under a request for one."""

from __future__ import annotations

import asyncio

from node.credentials.bearer import BearerCredentials
from node.credentials.choose import consenting
from node.credentials.ports import Asked, Token
from proto.records import Principal

ANN = Principal("ann", "idp", kind="user")
PATIENCE_S = 10.0


class Slow:
    """A `TokenSource` that gives one token after the other, each when it is let."""

    def __init__(self) -> None:
        self.given = 0
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def obtain(self, principal: Principal | None, asked: Asked) -> Token:
        self.given += 1
        self.asked.set()
        await self.let.wait()
        return Token(f"token-{self.given}")

    async def renew(self, principal: Principal | None, token: Token, asked: Asked) -> Token:
        return await self.obtain(principal, asked)


async def test_a_token_that_arrives_after_its_grant_was_taken_back_is_not_kept() -> None:
    source = Slow()
    credentials = BearerCredentials("s", source, whose=consenting("s"))
    async with asyncio.timeout(PATIENCE_S):
        waiting = asyncio.create_task(credentials.headers(ANN))
        await source.asked.wait()
        credentials.forget(ANN)
        source.let.set()
        assert (await waiting)["Authorization"] == "Bearer token-1"
        assert (await credentials.headers(ANN))["Authorization"] == "Bearer token-2"
        assert (await credentials.headers(ANN))["Authorization"] == "Bearer token-2"
    await credentials.close()
