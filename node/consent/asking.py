"""How a caller without a grant is told where to consent, in the words that its client knows.

2026-07-28, client declares elicitation.url    input_required with an elicitation of mode url; the retry runs the call
2025-11-25, client declares elicitation.url    error -32042 with the same elicitation, then, to those who listen,
                                               notifications/elicitation/complete; the client calls again
every other client                             a result with isError (an error where no tool is called) whose text
                                               holds the address
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mcp_types.jsonrpc import URL_ELICITATION_REQUIRED

from node.bridge.eras import INTERACTIVE, MODERN, RESPONSES, STATE, declined, may_be_asked, required, without_round
from node.bridge.states import States
from node.consent.tickets import TICKET_S, Ticket, Tickets
from node.credentials.consent_grants import Holder, holder_of
from node.credentials.ports import ConsentNeeded
from node.ingress.errors import UNAVAILABLE
from node.upstreams.channel import LISTEN
from node.upstreams.listening import ACKNOWLEDGED
from proto.calls import Answer, Call, Exchange, Target
from proto.errors import Invalid

URL_ERA = "2025-11-25"
"""The first revision whose clients may be asked to open a URL."""
COMPLETE = "notifications/elicitation/complete"
QUESTION = "consent"
LISTENERS_MAX = 20_000
"""Who listens beyond it is not told that a consent is complete."""


@dataclass(slots=True)
class _Listener:
    server: str
    holder: Holder
    exchange: Exchange
    agreed: asyncio.Event = field(default_factory=asyncio.Event)


class Asking:
    """Of one node. `address(ticket)` is where a browser takes a ticket."""

    def __init__(self, tickets: Tickets, states: States, address: Callable[[str], str]) -> None:
        self._tickets = tickets
        self._states = states
        self._address = address
        self._listening: dict[int, _Listener] = {}

    def __repr__(self) -> str:
        return f"Asking({len(self._listening)} listening)"

    def target(self, server: str, inner: Target) -> Target:
        """The same server, for callers who may have to consent first."""
        return _Asked(self, server, inner)

    def completed(self, server: str, holder: Holder, elicitation: str) -> None:
        """The person has consented: clients that listen at this server as that person are told so."""
        notice = {"method": COMPLETE, "params": {"elicitationId": elicitation}}
        for listener in tuple(self._listening.values()):
            if listener.holder == holder and listener.server == server:
                if elicitation:
                    listener.exchange.event(notice)
                listener.agreed.set()

    # ---- one call --------------------------------------------------------------------------------

    async def listen(self, server: str, inner: Target, call: Call, exchange: Exchange) -> Answer:
        """As `inner`, and what is completed here. One that waits for nothing but that and log messages is held until
        its person has consented, and ends then, to be begun anew."""
        if call.era >= MODERN or len(self._listening) >= LISTENERS_MAX:
            return await inner.call(call, exchange)
        listener = self._listening[id(call)] = _Listener(server, holder_of(call.principal), exchange)
        try:
            return await inner.call(call, exchange)
        except ConsentNeeded:
            if call.params.get("notifications"):
                raise
            exchange.event({"method": ACKNOWLEDGED, "params": {"notifications": {}}})
            await listener.agreed.wait()
            return {"result": {}}
        finally:
            del self._listening[id(call)]

    def resumed(self, call: Call) -> tuple[Call, bool]:
        """The call itself where this is its retry after a consent, and whether its person would not consent.

        Raises `Invalid` for a state that is of another call, or somebody else's.
        """
        if STATE not in call.params:
            return call, False
        try:
            kind = self._states.open(call.params[STATE]).kind
        except Invalid:
            return call, False
        if kind != "consent":
            return call, False
        self._states.of(call)
        no = declined(call.params.get(RESPONSES))
        return replace(call, params=without_round(call.params)), no

    def told(self, call: Call, needed: ConsentNeeded, *, refused: bool) -> Answer:
        """Where to consent. `refused`: the person was asked in this call already, and will not."""
        text, ticket = self._tickets.make(needed.server, holder_of(call.principal), needed.scopes)
        url = self._address(text)
        question = _question(needed.server, url)
        if not refused and may_be_asked(call.client_capabilities, question):
            if call.era >= MODERN and call.method in INTERACTIVE:
                return required({QUESTION: question}, self._states.consent(call, TICKET_S))
            if URL_ERA <= call.era < MODERN:
                return _url_required(question, ticket)
        return _in_words(call.method, needed.server, url)


class _Asked:
    def __init__(self, asking: Asking, server: str, inner: Target) -> None:
        self._asking = asking
        self._server = server
        self._inner = inner

    def __repr__(self) -> str:
        return f"Asked({self._inner!r})"

    async def call(self, call: Call, exchange: Exchange) -> Answer:
        if call.method == LISTEN:
            return await self._asking.listen(self._server, self._inner, call, exchange)
        call, refused = self._asking.resumed(call)
        try:
            return await self._inner.call(call, exchange)
        except ConsentNeeded as e:
            if call.method.startswith("notifications/"):
                raise
            return self._asking.told(call, e, refused=refused)


def _question(server: str, url: str) -> dict[str, Any]:
    message = f"Connect your account at server {server!r}: sign in to toolmesh, then agree at the server's own page."
    return {"method": "elicitation/create", "params": {"mode": "url", "message": message, "url": url}}


def _url_required(question: dict[str, Any], ticket: Ticket) -> Answer:
    """MCP 2025-11-25, elicitation: URLElicitationRequiredError."""
    elicitation = {**question["params"], "elicitationId": ticket.elicitation}
    return {
        "error": {
            "code": URL_ELICITATION_REQUIRED,
            "message": f"server {ticket.server!r} needs this person's consent first",
            "data": {"elicitations": [elicitation]},
        }
    }


def _in_words(method: str, server: str, url: str) -> Answer:
    text = (
        f"Server {server!r} acts on the account of whoever calls it, and this caller has not connected an account yet. "
        f"Nothing was run. Show your user this address, to be opened in a browser within {TICKET_S / 60:g} minutes: "
        f"{url}\nThere they sign in as the same caller and agree; after that, make this call again."
    )
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": text}], "isError": True}}
    return {"error": {"code": UNAVAILABLE, "message": text, "data": {"kind": "unavailable", "url": url}}}
