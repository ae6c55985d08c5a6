"""A legacy client's call at a modern server: what the server needs to know is asked, and the call made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from node.bridge.eras import (
    RESPONSES,
    STATE,
    asks,
    legacy_answer,
    legacy_question,
    modern_capabilities,
    without_round,
)
from proto.calls import Answer, Call, Exchange, Notification
from proto.errors import Exhausted, Unavailable

ROUNDS_MAX = 10
"""As the SDKs' clients have it."""
QUESTIONS_MAX = 16
"""In one round."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 0.25
"""Before a call is made again of which the server only wants to be reminded; doubled each time in a row."""

Run = Callable[[Call, Exchange], Awaitable[Answer]]


async def answered(run: Run, call: Call, exchange: Exchange) -> Answer:
    """The end of the call, at most `ROUNDS_MAX` rounds later.

    An error by which the client refuses a question is the answer of the call: the modern era has no other word for it.
    Raises what `run` and `exchange.request` raise, and `Exhausted` for a server that asks on and on.
    """
    call = replace(call, client_capabilities=modern_capabilities(call.client_capabilities))
    first = call.params
    pause_s = PAUSE_FIRST_S
    for _ in range(ROUNDS_MAX + 1):
        answer = await run(call, exchange)
        asked = asks(answer)
        if asked is None:
            return legacy_answer(call.method, answer)
        params = without_round(first)
        if STATE in asked:
            params = {**params, STATE: asked[STATE]}
        if questions := _questions(call, asked):
            pause_s = PAUSE_FIRST_S
            responses = await _ask(questions, exchange)
            if "error" in responses:
                return responses
            params = {**params, RESPONSES: responses["result"]}
        else:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)
        call = replace(call, params=params)
    raise Exhausted(
        f"server {call.server!r} has asked its client something {ROUNDS_MAX + 1} times in this call; at most "
        f"{ROUNDS_MAX} rounds are made"
    )


def _questions(call: Call, asked: Mapping[str, Any]) -> dict[str, Notification]:
    requests = asked.get("inputRequests") or {}
    if not isinstance(requests, dict) or not all(isinstance(r, dict) and "method" in r for r in requests.values()):
        raise Unavailable(f"server {call.server!r} asks its client something that is no map of requests")
    if len(requests) > QUESTIONS_MAX:
        raise Exhausted(
            f"server {call.server!r} asks {len(requests)} things at once; at most {QUESTIONS_MAX} are passed on"
        )
    return {key: legacy_question(request) for key, request in requests.items()}


async def _ask(questions: Mapping[str, Notification], exchange: Exchange) -> Answer:
    """All at once: `{"result": {key: result}}`, or the first error that comes, for which nothing else is waited."""

    async def ask(key: str, question: Notification) -> tuple[str, Answer]:
        return key, await exchange.request(question)

    tasks = [asyncio.create_task(ask(key, question)) for key, question in questions.items()]
    responses: dict[str, Any] = {}
    try:
        for task in asyncio.as_completed(tasks):
            key, answer = await task
            if "error" in answer:
                return answer
            responses[key] = answer["result"]
    finally:
        for left in tasks:
            left.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {"result": {key: responses[key] for key in questions}}
