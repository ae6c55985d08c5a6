"""Everything known of one peer: its view, its pulse and who bears its identity, fed by the same events. Pure."""

from __future__ import annotations

from federation.bearers import Bearers
from federation.events import Alarm, Broken, Close, Effects, Event, Expel, Opened, Probe, Received, Spoke, Tick
from federation.liveness import Pulse
from federation.view import Phase, View
from proto.frames import Down, Welcome

CONTESTED = "identity_contested"


class Peer:
    """One peer. Whoever runs it delivers events of the newest stream only, and obeys effects in their order.

    After `Close` or `Probe` the stream counts as ended: no `Broken` is owed for it.
    """

    def __init__(self, view: View, now_ms: int) -> None:
        self.view = view
        self.pulse = Pulse(now_ms)
        self.bearers = Bearers(view.owner.uri)
        # Who speaks on the open stream, and where it was dialled.
        self._instance = b""
        self._address = ""

    def __repr__(self) -> str:
        return f"Peer({self.view!r} {self.pulse!r})"

    def governs(self, now_ms: int) -> bool:
        """Whether what it lays down is known here as it is now: it has the role and is heard."""
        return self.view.authority and self.view.phase is Phase.LIVE and self.pulse.hears(now_ms)

    def handle(self, event: Event, now_ms: int) -> Effects:
        match event:
            case Received() if self.view.phase is Phase.IDLE:
                return []
            case Received(frame):
                effects = self._identified(frame, now_ms) or self.view.handle(event, now_ms)
                refusal = next((e.cause for e in effects if isinstance(e, Close)), None)
                if refusal is None:
                    effects += self._contest(self.bearers.heard(self._instance, self._address, now_ms), now_ms)
                # A peer whose words are refused is not heard: it must not count as alive.
                verdict = event if refusal is None else Broken(refusal)
                return effects + self._beat(verdict, now_ms)
            case Spoke(instance, address):
                effects = self._contest(self.bearers.heard(instance, address, now_ms), now_ms)
                closed = next((e.cause for e in effects if isinstance(e, Close)), None)
                return effects if closed is None else effects + self._beat(Broken(closed), now_ms)
            case Opened(address=address):
                self._instance, self._address = b"", address
                return self.view.handle(event, now_ms) + self._beat(event, now_ms)
            case Broken():
                return self.view.handle(event, now_ms) + self._beat(event, now_ms)
            case Tick():
                # The view last: one whose stream this very tick gives up may be of an age at once.
                return self._beat(event, now_ms) + self.view.handle(event, now_ms)
        return self._beat(event, now_ms)

    def _identified(self, frame: Down, now_ms: int) -> Effects:
        """Nothing if the process on the stream may speak for its node; else how it is refused."""
        if not isinstance(frame, Welcome):
            return []
        self._instance = frame.instance
        why = self.bearers.refusal(frame.instance, now_ms)
        return _refuse(why) if why else []

    def _contest(self, later: bytes, now_ms: int) -> Effects:
        """Two processes are there: the later one (b"": none is) is told so wherever it speaks."""
        if not later:
            return []
        why = self.bearers.refusal(later, now_ms)
        on_stream = later == self._instance and self.view.phase is not Phase.IDLE
        return [Expel(later, why), *(_refuse(why) if on_stream else [Alarm(CONTESTED, why)])]

    def _beat(self, event: Event, now_ms: int) -> Effects:
        effects = self.pulse.handle(event, now_ms)
        if isinstance(event, Broken) or any(isinstance(e, Probe) for e in effects):
            return self.view.handle(Broken(self.pulse.cause), now_ms) + effects
        return effects


def _refuse(why: str) -> Effects:
    return [Alarm(CONTESTED, why), Close(why, CONTESTED)]
