"""How one peer fares: from its beats, its calls, the silence between, a fresh probe and the word of others. Pure.

alive (or draining) --broken stream | silence--> suspect --probe fails--> witnesses --> unreachable | down
                    --calls fail, then no beat-> suspect
unreachable | down  --now and then-------------> witnesses, whose word may have changed
any of them         --a frame on a stream------> alive
any of them         --Bye(leave)---------------> left
"""

from __future__ import annotations

from enum import StrEnum

from federation.events import (
    AskWitnesses,
    Became,
    Broken,
    CallsFailed,
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

PROOF_MS = BEAT_MS + 500
"""Where calls have failed, one beat and what delays it is all the silence that is borne."""

PROBE_MS = 2000
"""A fresh connection is given this long to be welcomed before others are asked."""

TESTIMONY_MS = 3000
"""Witnesses are given this long, whatever becomes of whoever asks them."""

WITNESSES = 3

REVIEW_FIRST_MS = 2000
REVIEW_MAX_MS = 60_000
"""A verdict is reviewed by witnesses after the first span, then after twice the span before, up to the last: who hears
the last words of a dead node on a longer way than ours would else keep it "unreachable" for good."""


class _Doubt(StrEnum):
    NONE = "none"
    PROBING = "probing"
    ASKING = "asking"
    DECIDED = "decided"


class Pulse:
    """The liveness of one peer. `heard_ms` moves on with every frame, and by this node's own lag.

    `cause` is empty while it is alive, else says why it is not.
    """

    def __init__(self, now_ms: int) -> None:
        self.state = Liveness.SUSPECT
        self.cause = "not heard yet"
        self.since_ms = now_ms
        self.heard_ms = now_ms
        # Until the first attempt has ended there is nothing to ask others about.
        self._doubt = _Doubt.PROBING
        self._until_ms = now_ms + PROBE_MS
        self._why = self.cause
        self._trouble = ""
        self._proof_by_ms = 0
        self._question = 0
        self._review_ms = REVIEW_FIRST_MS

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
            case CallsFailed(cause):
                return self._calls_failed(cause, now_ms)
            case Witnessed(question=question):
                # Late answers are none: they tell of another time.
                asking = self._doubt is _Doubt.ASKING and question == self._question
                return self._decide(event, now_ms) if asking else []
        return []

    def _heard(self, draining: bool | None, now_ms: int) -> Effects:
        self.heard_ms, self._doubt, self._trouble = now_ms, _Doubt.NONE, ""
        if draining is None:
            draining = self.state is Liveness.DRAINING
        return self._become(Liveness.DRAINING if draining else Liveness.ALIVE, "", now_ms)

    def _broken(self, cause: str, now_ms: int) -> Effects:
        if self._present:
            return self._suspect(cause, now_ms)
        if self._doubt is _Doubt.PROBING:
            self.cause = self._why = cause
            return self._ask(now_ms)
        return []

    def _calls_failed(self, cause: str, now_ms: int) -> Effects:
        if self._present and not self._trouble:
            self._trouble, self._proof_by_ms = cause, now_ms + PROOF_MS
        return []

    @property
    def _present(self) -> bool:
        return self.state in (Liveness.ALIVE, Liveness.DRAINING)

    def _suspect(self, cause: str, now_ms: int) -> Effects:
        self._doubt, self._until_ms, self._trouble = _Doubt.PROBING, now_ms + PROBE_MS, ""
        self._why, self._review_ms = cause, REVIEW_FIRST_MS
        return [*self._become(Liveness.SUSPECT, cause, now_ms), Probe()]

    def _ask(self, now_ms: int) -> Effects:
        self._doubt, self._until_ms = _Doubt.ASKING, now_ms + TESTIMONY_MS
        self._question += 1
        return [AskWitnesses(WITNESSES, self._question)]

    def _tick(self, lag_ms: int, now_ms: int) -> Effects:
        credit = max(0, lag_ms)
        self.heard_ms = min(now_ms, self.heard_ms + credit)
        self._until_ms += credit
        self._proof_by_ms += credit
        if self._present:
            silence = self.silence_ms(now_ms)
            if silence >= SILENCE_MS:
                return self._suspect(f"silent for {silence} ms", now_ms)
            if self._trouble and now_ms >= self._proof_by_ms:
                return self._suspect(f"calls fail ({self._trouble}), and silent for {silence} ms", now_ms)
            return []
        if now_ms < self._until_ms or self.state is Liveness.LEFT:
            return []
        if self._doubt is _Doubt.ASKING:
            return self._decide(Witnessed(), now_ms)
        return self._ask(now_ms)

    def _decide(self, word: Witnessed, now_ms: int) -> Effects:
        self._doubt, self._until_ms = _Doubt.DECIDED, now_ms + self._review_ms
        self._review_ms = min(2 * self._review_ms, REVIEW_MAX_MS)
        if word.hearing:
            return self._become(Liveness.UNREACHABLE, f"{self._why}; heard by {', '.join(word.hearing)}", now_ms)
        if word.asked:
            return self._become(Liveness.DOWN, f"{self._why}; not heard by {', '.join(word.asked)} either", now_ms)
        if self.state is not Liveness.SUSPECT:
            # Nobody left to ask is no reason to take back what was said.
            return []
        return self._become(Liveness.UNREACHABLE, f"{self._why}; nobody else could be asked", now_ms)

    def _become(self, state: Liveness, cause: str, now_ms: int) -> Effects:
        if state is self.state:
            return []
        self.state, self.cause, self.since_ms = state, cause, now_ms
        return [Became(state, cause)]
