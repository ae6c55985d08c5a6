"""How long a call whose stream broke looks for its owner, by what is known of that owner. Pure."""

from __future__ import annotations

from federation.events import Liveness

RECOVERY_S = 45.0
"""While nothing is known against it: the owner gives up on a call that nobody claims after 30 s."""

RECOVERY_CUT_S = 5.0
"""Once it is unreachable from here: an attempt or two. Whoever waits can do more with a plain word."""

PROOF_DOWN_S = 1.0
"""For whoever answers on a stream that looks open, though witnesses agree that its owner is down: a round trip across
the world, and a second loss. A wrong verdict costs nothing here, a frozen owner holds its callers up no longer."""


class Patience:
    """Times are monotonic seconds. `proof_s`: how long a stream that looks open is given to show that it is."""

    def __init__(self) -> None:
        self._limit_s = RECOVERY_S
        self.proof_s = RECOVERY_CUT_S
        self._since_s = 0.0
        self.verdict = ""

    def owner_is(self, state: Liveness, cause: str, now_s: float) -> None:
        """Suspicion changes nothing; whoever is heard again has all the time of before."""
        match state:
            case Liveness.ALIVE | Liveness.DRAINING:
                self._limit_s, self.verdict = RECOVERY_S, ""
            case Liveness.UNREACHABLE:
                self._judge(RECOVERY_CUT_S, RECOVERY_CUT_S, f"it is unreachable from here: {cause}", now_s)
            case Liveness.DOWN:
                self._judge(0.0, PROOF_DOWN_S, f"it is down: {cause}", now_s)
            case Liveness.LEFT:
                self._judge(0.0, PROOF_DOWN_S, f"it has left: {cause}", now_s)
            case Liveness.SUSPECT:
                pass

    def _judge(self, limit_s: float, proof_s: float, verdict: str, now_s: float) -> None:
        self._limit_s, self.proof_s, self._since_s, self.verdict = limit_s, proof_s, now_s, verdict

    def until_s(self, lost_s: float) -> float:
        """When a call whose stream broke at `lost_s` is given up."""
        return max(lost_s, self._since_s) + self._limit_s if self.verdict else lost_s + self._limit_s

    def __repr__(self) -> str:
        return f"Patience({self._limit_s:g} s{', ' + self.verdict if self.verdict else ''})"
