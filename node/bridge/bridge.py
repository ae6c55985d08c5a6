"""Between the eras, at the owner: whoever calls speaks its own revision, and so does the server.

                    legacy server                                modern server
    legacy client   straight                                     its questions are asked in mid-call (`answering`)
    modern client   parked while its questions are open, which   its questions pass; where several nodes could be asked
                    are put as `input_required` (`parked`)       again, its state is given the place (`states`)

In every cell a tool that runs as a task only is polled for a client that did not ask for a task (`polling`). All else,
and every method in which nothing can be asked, costs a comparison or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from node.bridge import states
from node.bridge.answering import answered
from node.bridge.eras import (
    INTERACTIVE,
    MODERN,
    RESPONSES,
    STATE,
    asks,
    can_answer,
    declined,
    may_be_asked,
    required,
    urls_to_open,
    without_round,
)
from node.bridge.lot import Lot
from node.bridge.own_tasks import OwnTasks
from node.bridge.parked import ParkedCall
from node.bridge.polling import only_as_task, polled
from node.bridge.states import States
from node.sealing import Sealer
from node.upstreams.spec import UpstreamSpec
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Expired, Invalid, Unknown

AGAIN_S = 600.0
"""So long a client may take to open the URLs that a legacy server wants opened before it runs a call."""
PARKED_BUDGET_MS = 3_600_000
"""Of the call at the server, which lasts for all of its rounds; what bounds it is the server's own timeout, which
stands still while a question is open, and the time that a call may be parked."""


class Offered(Protocol):
    @property
    def tools(self) -> tuple[dict[str, Any], ...]: ...


class Bridgeable(Protocol):
    """A server of this node, spoken to in its own era."""

    spec: UpstreamSpec

    @property
    def modern(self) -> bool | None:
        """Whether it speaks 2026-07-28; None: not known yet, `learn` tells. It may speak both eras."""

    @property
    def legacy(self) -> bool | None:
        """Whether it speaks a revision with a handshake; None: not known yet, `learn_legacy` tells."""

    def main_will_do(self, call: Call) -> bool:
        """Whether a client of 2026-07-28 is served by the legacy main session, of a server that may speak both."""

    async def learn(self) -> None:
        """Settle `modern`. Never raises."""

    async def learn_legacy(self) -> None:
        """Settle `legacy`, if the server is up. Never raises."""

    def when_full(self, do: Callable[[], object]) -> None:
        """`do` is called whenever a call has to wait for a session that others hold."""

    @property
    def offer(self) -> Offered: ...

    async def run(self, call: Call, exchange: Exchange) -> Answer:
        """As `Target.call`, in the era of the call if it has that, else in the other one."""


class Bridge:
    """Of the node `me`. `parked` holds the calls that wait for their clients."""

    def __init__(self, me: str, sealer: Sealer, lot: Lot | None = None) -> None:
        self.states = States(me, sealer)
        self.parked = Lot() if lot is None else lot

    def __repr__(self) -> str:
        return f"Bridge({self.parked!r})"

    def target(self, upstream: Bridgeable) -> Target:
        """The server for clients of every era. Made once for each server, and kept."""
        upstream.when_full(lambda: self.parked.give_way(upstream.spec.name))
        return OwnTasks(_Bridged(upstream, self.states, self.parked), upstream.spec.name)

    async def close(self) -> None:
        """Give up every parked call."""
        await self.parked.close()


class _Bridged:
    def __init__(self, upstream: Bridgeable, states: States, lot: Lot) -> None:
        self._upstream = upstream
        self._states = states
        self._lot = lot
        self._tools: tuple[dict[str, Any], ...] = ()
        self._task_tools: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Bridged({self._upstream!r})"

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        upstream = self._upstream
        if call.method not in INTERACTIVE:
            if call.method == "tasks/list":
                self._check_tasks_are_the_callers()
            return await upstream.run(call, exchange)
        if call.era >= MODERN:
            plain = upstream.main_will_do(call)
            if upstream.modern is None and not plain:
                await upstream.learn()
            if plain or not upstream.modern:
                return await self._modern_at_legacy(call, exchange)
            if upstream.spec.service:
                return await self._modern_at_one_of_several(call, exchange)
        else:
            if upstream.legacy is None:
                await upstream.learn_legacy()
            if upstream.legacy is False:
                return await answered(upstream.run, call, exchange)
            if self._only_as_a_task(call):
                return await polled(upstream.run, call, exchange)
        return await upstream.run(call, exchange)

    def _only_as_a_task(self, call: Call) -> bool:
        """Whether a legacy server runs this tool as a task alone, and its caller asked for none."""
        tools = self._upstream.offer.tools
        if tools is not self._tools:
            self._tools, self._task_tools = tools, only_as_task(tools)
        return (
            bool(self._task_tools)
            and call.method == "tools/call"
            and call.params.get("name") in self._task_tools
            and "task" not in call.params
        )

    async def _run_legacy(self, call: Call, exchange: Exchange) -> Answer:
        if self._only_as_a_task(call):
            return await polled(self._upstream.run, call, exchange)
        return await self._upstream.run(call, exchange)

    def _check_tasks_are_the_callers(self) -> None:
        spec = self._upstream.spec
        if spec.stateless or spec.sessions == "shared":
            # In a session that everybody shares the list is of everybody's tasks.
            raise Unknown("tasks/list is not relayed to a server whose sessions are shared", method="tasks/list")

    # ---- modern client, modern server ------------------------------------------------------------

    async def _modern_at_one_of_several(self, call: Call, exchange: Exchange) -> Answer:
        again = call
        if STATE in call.params and self._states.place(call.params[STATE]) is not None:
            state = self._states.of(call)
            if state.kind != "inner":
                raise Invalid(f"params.{STATE} was given by a server of another revision; {states.AFRESH}")
            params = {k: v for k, v in call.params.items() if k != STATE}
            again = replace(call, params=params if state.inner is None else {**params, STATE: state.inner})
        answer = await self._upstream.run(again, exchange)
        asked = asks(answer)
        if asked is None:
            return answer
        return {**answer, "result": {**asked, STATE: self._states.inner(call, asked.get(STATE))}}

    # ---- modern client, legacy server ------------------------------------------------------------

    async def _modern_at_legacy(self, call: Call, exchange: Exchange) -> Answer:
        opens = True
        if STATE in call.params:
            state = self._states.of(call)
            if state.kind == "parked":
                return await self._next_round(state, call, exchange)
            if state.kind != "again":
                raise Invalid(f"params.{STATE} was given by a server of another revision; {states.AFRESH}")
            opens = not declined(call.params.get(RESPONSES))
        call = replace(call, params=without_round(call.params))
        if not can_answer(call.client_capabilities):
            return await self._run_legacy(call, exchange)
        lasting = replace(call, budget_ms=max(call.budget_ms, PARKED_BUDGET_MS))
        parked = ParkedCall(self._lot.new_id(), lasting, states.digest_of(call), self._run_legacy)
        return await self._round(parked, call, exchange, opens=opens)

    async def _next_round(self, state: states.State, call: Call, exchange: Exchange) -> Answer:
        parked = self._lot.find(state.id, state.round)
        responses = parked.check(call.params.get(RESPONSES))
        self._lot.attended(parked)
        parked.deliver(responses)
        return await self._round(parked, call, exchange)

    async def _round(self, parked: ParkedCall, call: Call, exchange: Exchange, *, opens: bool = True) -> Answer:
        """`opens`: its person may be asked to open URLs, and has not refused to."""
        try:
            async with asyncio.timeout(call.budget_ms / 1000):
                answer = await parked.attend(call, exchange)
            if answer is None:
                self._lot.park(parked)
                return self._asked(parked, call)
        except TimeoutError:
            self._lot.end(parked, "expired")
            raise Expired(
                f"{call.method} on server {call.server!r} neither ended nor asked anything within "
                f"{call.budget_ms / 1000:g} s; it was cancelled",
                started=True,
                call_id=call.call_id,
            ) from None
        except BaseException:
            self._lot.end(parked, "given up")
            await parked.cancel()
            raise
        self._lot.end(parked, "answered")
        return self._urls_asked(answer, call) if opens else answer

    def _asked(self, parked: ParkedCall, call: Call) -> Answer:
        state = self._states.parked(call, parked.digest, parked.id, parked.round, self._lot.parked_s)
        return required(parked.questions, state)

    def _urls_asked(self, answer: Answer, call: Call) -> Answer:
        """-32042, which this client does not know, as the questions that it stands for."""
        questions = {
            f"u{n}": {"method": "elicitation/create", "params": params}
            for n, params in enumerate(urls_to_open(answer), 1)
        }
        if not questions or not all(may_be_asked(call.client_capabilities, q) for q in questions.values()):
            return answer
        return required(questions, self._states.again(call, AGAIN_S))
