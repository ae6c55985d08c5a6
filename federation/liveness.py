"""How one peer fares: from its beats, the silence between them, a fresh probe and the word of others. Pure.

alive (or draining) --broken stream | silence--> suspect --probe fails--> witnesses --> unreachable | down
any of them         --a frame on a stream------> alive
any of them         --Bye(leave)---------------> left
"""

from __future__ import annotations

from enum import StrEnum

from federation.events import (
    AskWitnesses,
    Became,
    Broken,
    Effects,
    Event,
    Liveness,
    Probe,
    Received,
    Tick,
    Witnessed,
)
from proto.frames import Beat, Bye, Farewell

BEAT_MS = 1000

SILENCE_MS = 3000
"""Silence that is suspicious, less this node's own lag: one that was frozen for so long has heard nobody."""

PROBE_MS = 2000
"""A fresh connection is given this long to be welcomed before others are asked."""

TESTIMONY_MS = 3000
"""Witnesses are given this long, whatever becomes of whoever asks them."""

WITNESSES = 3


class _Doubt(StrEnum):
    NONE = "none"
    PROBING = "probing"
    ASKING = "asking"
    DECIDED = "decided"


class Pulse:
    """The liveness of one peer. `heard_ms` moves on with every frame, and by this node's own lag."""

    def __init__(self, now_ms: int) -> None:
        self.state = Liveness.SUSPECT
        self.cause = "not heard yet"
        self.since_ms = now_ms
        self.heard_ms = now_ms
        # Until the first attempt has ended there is nothing to ask others about.
        self._doubt = _Doubt.PROBING
        self._until_ms = now_ms + PROBE_MS

    def __repr__(self) -> str:
        return f"Pulse({self.state}: {self.cause})" if self.cause else f"Pulse({self.state})"

    def silence_ms(self, now_ms: int) -> int:
        return max(0, now_ms - self.heard_ms)

    def hears(self, now_ms: int) -> bool:
        """What this node tells others that ask."""
        return self.state in (Liveness.ALIVE, Liveness.DRAINING) and self.silence_ms(now_ms) < SILENCE_MS

    def handle(self, event: Event, now_ms: int) -> Effects:
        match event:
            case Received(Bye(reason)):
                if reason is Farewell.RESTART:
                    return self._suspect("it said that it restarts", now_ms)
                self._doubt = _Doubt.DECIDED
                return self._become(Liveness.LEFT, f"it said goodbye ({reason})", now_ms)
            case Received(frame):
                return self._heard(frame.draining if isinstance(frame, Beat) else None, now_ms)
            case Broken(cause):
                return self._broken(cause, now_ms)
            case Tick(lag_ms):
                return self._tick(lag_ms, now_ms)
            case Witnessed():
                return self._decide(event, now_ms) if self._doubt is _Doubt.ASKING else []
        return []

    def _heard(self, draining: bool | None, now_ms: int) -> Effects:
        self.heard_ms, self._doubt = now_ms, _Doubt.NONE
        if draining is None:
            draining = self.state is Liveness.DRAINING
        return self._become(Liveness.DRAINING if draining else Liveness.ALIVE, "", now_ms)

    def _broken(self, cause: str, now_ms: int) -> Effects:
        if self.state in (Liveness.ALIVE, Liveness.DRAINING):
            return self._suspect(cause, now_ms)
        if self._doubt is _Doubt.PROBING:
            self.cause = cause
            return self._ask(now_ms)
        return []

    def _suspect(self, cause: str, now_ms: int) -> Effects:
        self._doubt, self._until_ms = _Doubt.PROBING, now_ms + PROBE_MS
        return [*self._become(Liveness.SUSPECT, cause, now_ms), Probe()]

    def _ask(self, now_ms: int) -> Effects:
        self._doubt, self._until_ms = _Doubt.ASKING, now_ms + TESTIMONY_MS
        return [AskWitnesses(WITNESSES)]

    def _tick(self, lag_ms: int, now_ms: int) -> Effects:
        credit = max(0, lag_ms)
        self.heard_ms = min(now_ms, self.heard_ms + credit)
        self._until_ms += credit
        if self.state in (Liveness.ALIVE, Liveness.DRAINING):
            silence = self.silence_ms(now_ms)
            return self._suspect(f"silent for {silence} ms", now_ms) if silence >= SILENCE_MS else []
        if now_ms < self._until_ms:
            return []
        if self._doubt is _Doubt.PROBING:
            return self._ask(now_ms)
        if self._doubt is _Doubt.ASKING:
            return self._decide(Witnessed(), now_ms)
        return []

    def _decide(self, word: Witnessed, now_ms: int) -> Effects:
        self._doubt = _Doubt.DECIDED
        if word.hearing:
            return self._become(Liveness.UNREACHABLE, f"{self.cause}; heard by {', '.join(word.hearing)}", now_ms)
        if word.asked:
            return self._become(Liveness.DOWN, f"{self.cause}; not heard by {', '.join(word.asked)} either", now_ms)
        return self._become(Liveness.UNREACHABLE, f"{self.cause}; nobody else could be asked", now_ms)

    def _become(self, state: Liveness, cause: str, now_ms: int) -> Effects:
        if state is self.state:
            return []
        self.state, self.cause, self.since_ms = state, cause, now_ms
        return [Became(state, cause)]
