"""Addresses that a call gives its caller to open in a browser: for one person, one server, and a few minutes.

A ticket opens nothing by itself: whoever comes with it has to sign in, as the very principal that it was made for.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from node.credentials.consent_grants import Holder
from node.sealing import Sealer
from proto.errors import Invalid

PURPOSE = "consent ticket"
TICKET_S = 600.0
TICKET_CHARS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Ticket:
    """`elicitation` names the question to the client that the address was part of."""

    server: str
    holder: Holder
    scopes: tuple[str, ...] = ()
    elicitation: str = ""


class Tickets:
    """Of the node `me`, sealed with the mesh key: any node can read what it sealed, only this one takes it."""

    def __init__(self, me: str, sealer: Sealer) -> None:
        self._me = me
        self._sealer = sealer

    def __repr__(self) -> str:
        return f"Tickets({self._me})"

    def make(self, server: str, holder: Holder, scopes: tuple[str, ...]) -> tuple[str, Ticket]:
        """The text that goes into the address, and what it says. Scopes that make it too long are left to the server,
        which demands them again."""
        ticket = Ticket(server, holder, scopes, secrets.token_urlsafe(16))
        value = {"n": self._me, "s": server, "p": list(holder), "c": list(scopes), "e": ticket.elicitation}
        text = self._sealer.seal(PURPOSE, value, TICKET_S)
        return (text, ticket) if len(text) <= TICKET_CHARS_MAX or not scopes else self.make(server, holder, ())

    def open(self, text: str) -> Ticket:
        """Raises `Invalid` with the mend."""
        mend = "call once more from your agent, which gives a new one"
        if len(text) > TICKET_CHARS_MAX:
            raise Invalid(f"this address is not one of ours; {mend}")
        try:
            v = self._sealer.open(PURPOSE, text)
        except Invalid as e:
            why = "is too old" if e.data.get("expired") else "is not one of ours, or was changed on its way"
            raise Invalid(f"this address {why}; {mend}") from None
        if v["n"] != self._me:
            raise Invalid(f"this address belongs to another node; {mend}")
        issuer, tenant, subject = v["p"]
        return Ticket(v["s"], (issuer, tenant, subject), tuple(v["c"]), v["e"])
