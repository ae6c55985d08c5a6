"""`requestState`: what a modern client brings back to go on with its call, sealed, and held against the call it is in.

Four kinds, by what the retry does:

    parked   the call is still running at a legacy server and waits for these answers
    again    nothing runs: a legacy server wanted a URL opened first, and the call is made anew
    inner    a modern server's own state, with the place where it is understood
    consent  nothing ran: its caller had to sign in at the server first, and the call is made anew
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from node.bridge.eras import RESPONSES, STATE
from node.sealing import Sealer
from proto import jsons
from proto.calls import Call
from proto.errors import Invalid

PURPOSE = "requestState"
Kind = Literal["parked", "again", "inner", "consent"]

_NOT_THE_CALLS = frozenset({RESPONSES, STATE, "_meta"})
"""Members of params that a retry may change. `_meta` says how it is asked (tracing, progress), not what."""

AFRESH = f"to begin afresh, call without {RESPONSES} and {STATE}"


@dataclass(frozen=True, slots=True)
class State:
    """`id` and `round` are of a parked call, `inner` of a modern server's state (None: it gave none)."""

    kind: Kind
    node: str
    server: str
    digest: bytes
    principal: tuple[str, str, str]
    id: str = ""
    round: int = 0
    inner: str | None = None


def digest_of(call: Call) -> bytes:
    """Equal for two rounds of one call. Raises `Invalid` for params that JSON cannot carry."""
    asked = {k: v for k, v in call.params.items() if k not in _NOT_THE_CALLS}
    return jsons.digest([call.method, asked])


class States:
    """Of the node `me`."""

    def __init__(self, me: str, sealer: Sealer) -> None:
        self._me = me
        self._sealer = sealer

    def parked(self, call: Call, digest: bytes, parked_id: str, round_: int, ttl_s: float) -> str:
        return self._seal("parked", call, digest, ttl_s, {"i": parked_id, "r": round_})

    def again(self, call: Call, ttl_s: float) -> str:
        return self._seal("again", call, digest_of(call), ttl_s, {})

    def consent(self, call: Call, ttl_s: float) -> str:
        return self._seal("consent", call, digest_of(call), ttl_s, {})

    def inner(self, call: Call, inner: Any) -> str:
        """Without an expiry of ours: the server says itself how long its state is good."""
        return self._seal("inner", call, digest_of(call), None, {"o": inner})

    def _seal(self, kind: Kind, call: Call, digest: bytes, ttl_s: float | None, more: dict[str, Any]) -> str:
        value = {
            "k": kind,
            "n": self._me,
            "s": call.server,
            "p": list(call.principal.identity),
            "d": digest.hex(),
            **more,
        }
        return self._sealer.seal(PURPOSE, value, ttl_s)

    def open(self, text: Any) -> State:
        """Raises `Invalid`, with `data["expired"]` where that is what is wrong."""
        if not isinstance(text, str):
            raise Invalid("it must be a string")
        v = self._sealer.open(PURPOSE, text)
        issuer, tenant, subject = v["p"]
        return State(
            kind=v["k"],
            node=v["n"],
            server=v["s"],
            digest=bytes.fromhex(v["d"]),
            principal=(issuer, tenant, subject),
            id=v.get("i", ""),
            round=v.get("r", 0),
            inner=v.get("o"),
        )

    def place(self, text: Any) -> tuple[str, str] | None:
        """(node, server) where a call with this state must go; None for what this mesh did not seal, or is over."""
        try:
            state = self.open(text)
        except Invalid:
            return None
        return state.node, state.server

    def of(self, call: Call) -> State:
        """The state that a retry brings, held against it. Raises `Invalid`, which tells nothing of what was sealed."""
        try:
            state = self.open(call.params.get(STATE))
        except Invalid as e:
            raise Invalid(f"params.{STATE} cannot be used: {e.message}; {AFRESH}", **e.data) from None
        if state.principal != call.principal.identity:
            raise Invalid(f"params.{STATE} was given to another caller; {AFRESH}")
        if (state.node, state.server) != (self._me, call.server):
            raise Invalid(f"params.{STATE} was given by another server; {AFRESH}")
        if state.digest != digest_of(call):
            raise Invalid(
                f"params.{STATE} was given for other params: a retry repeats its call, with {RESPONSES} and {STATE} "
                f"added and nothing else changed; {AFRESH}"
            )
        return state
