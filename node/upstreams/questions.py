"""What a server asks of a client: relayed, bounded in time and number, and taken back when the server does so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from node.upstreams.attribution import Pending
from node.upstreams.wire import Message, logger
from proto import jsons
from proto.calls import Answer, Exchange
from proto.errors import Invalid, MeshError

QUESTIONS_MAX = 64
"""Open at a time on one session; what is asked beyond is answered with an error."""

METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0 §5.1
INTERNAL_ERROR = -32603


class _Open:
    __slots__ = ("calls", "exact", "method", "request_id", "task", "unwanted")

    def __init__(self, request_id: Any, method: str, calls: list[Pending], exact: bool) -> None:
        self.exact = exact
        self.request_id = request_id
        self.method = method
        self.calls = calls
        self.unwanted = False
        self.task: asyncio.Task[None] | None = None


class Questions:
    """Each runs in a task of its own. `reply` sends an answer to the server, under the server's own id.

    The clocks of the calls that may have brought a question about stand still while it is open.
    """

    def __init__(self, name: str, reply: Callable[[Message, str], None], ask_timeout_s: float) -> None:
        self._name = name
        self._reply = reply
        self._ask_timeout_s = ask_timeout_s
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def refuse(self, request_id: Any, code: int, why: str) -> None:
        error = {"code": code, "message": why}
        self._reply({"jsonrpc": "2.0", "id": request_id, "error": error}, "refusal")

    def begin(self, message: Message, exchange: Exchange, calls: Sequence[Pending], *, exact: bool) -> None:
        """Ask the client behind `exchange`; `calls` are those that the question may belong to, `exact`: does."""
        request_id, method = message["id"], message["method"]
        key = _key(request_id)
        if key in self._open:
            self.refuse(request_id, INTERNAL_ERROR, f"{method}: a request with this id is still open")
        elif len(self._open) >= QUESTIONS_MAX:
            self.refuse(request_id, INTERNAL_ERROR, f"{method}: {QUESTIONS_MAX} requests to clients are open already")
        else:
            question = self._open[key] = _Open(request_id, method, list(calls), exact)
            asking = self._ask(message, exchange, question)
            question.task = asyncio.create_task(asking, name=f"{self._name} asks {method}")
            question.task.add_done_callback(lambda _: self._open.pop(key, None))

    def take_back(self, request_id: Any) -> bool:
        """The server no longer wants to know: the client is told so, and there is no reply."""
        question = self._open.get(_key(request_id))
        if question is None or question.task is None:
            return False
        question.unwanted = True
        question.task.cancel()
        return True

    def ended(self, call: Pending) -> None:
        """A call is over. What only it can have asked is taken back from the client and answered with an error.

        A question that may as well have come from elsewhere in the server stays open if the call was answered.
        """
        answered = call.answer.done() and not call.answer.cancelled() and call.answer.exception() is None
        for question in tuple(self._open.values()):
            if call not in question.calls:
                continue
            question.calls.remove(call)
            if not question.calls and question.task is not None and (question.exact or not answered):
                question.unwanted = True
                question.task.cancel()
                why = f"{question.method}: the call that it belongs to has ended"
                self.refuse(question.request_id, INTERNAL_ERROR, why)

    async def close(self) -> None:
        tasks = [q.task for q in self._open.values() if q.task is not None]
        for question in self._open.values():
            question.unwanted = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, message: Message, exchange: Exchange, question: _Open) -> None:
        method = message["method"]
        request = {k: v for k, v in message.items() if k not in ("jsonrpc", "id")}
        clocks = [p.clock for p in question.calls if p.clock is not None]
        for clock in clocks:
            clock.pause()
        answer: Answer
        try:
            async with asyncio.timeout(self._ask_timeout_s):
                answer = await exchange.request(request)
        except asyncio.CancelledError:
            if question.unwanted:
                return
            raise
        except TimeoutError:
            answer = _error(f"{method}: the client did not answer within {self._ask_timeout_s:g} s")
        except MeshError as e:
            answer = _error(f"{method}: {e.message}")
        except Exception:
            # One question's end must not stop the reading of what else the server says.
            logger.exception("server %s: a request of it could not be relayed", self._name)
            answer = _error(f"{method}: internal error of the gateway")
        finally:
            question.calls.clear()
            for clock in clocks:
                clock.resume()
        self._reply({"jsonrpc": "2.0", "id": message["id"], **answer}, f"reply to {method}")


def _error(why: str) -> Answer:
    return {"error": {"code": INTERNAL_ERROR, "message": why}}


def _key(request_id: Any) -> str:
    """Ids 1 and "1" are two."""
    try:
        return jsons.dumps(request_id).decode()
    except Invalid:
        return repr(request_id)
