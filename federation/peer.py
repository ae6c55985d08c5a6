"""Everything known of one peer: its view and its pulse, fed by the same events. Pure."""

from __future__ import annotations

from federation.events import Broken, Close, Effects, Event, Opened, Probe, Received, Tick
from federation.liveness import Pulse
from federation.view import Phase, View


class Peer:
    """One peer. Whoever runs it delivers events of the newest stream only, and obeys effects in their order.

    After `Close` or `Probe` the stream counts as ended: no `Broken` is owed for it.
    """

    def __init__(self, view: View, now_ms: int) -> None:
        self.view = view
        self.pulse = Pulse(now_ms)

    def __repr__(self) -> str:
        return f"Peer({self.view!r} {self.pulse!r})"

    def handle(self, event: Event, now_ms: int) -> Effects:
        match event:
            case Received() if self.view.phase is Phase.IDLE:
                return []
            case Received():
                effects = self.view.handle(event, now_ms)
                refusal = next((e.cause for e in effects if isinstance(e, Close)), None)
                # A peer whose words are refused is not heard: it must not count as alive.
                verdict = event if refusal is None else Broken(refusal)
                return effects + self._beat(verdict, now_ms)
            case Opened() | Broken():
                return self.view.handle(event, now_ms) + self._beat(event, now_ms)
            case Tick():
                # The view last: one whose stream this very tick gives up may be of an age at once.
                return self._beat(event, now_ms) + self.view.handle(event, now_ms)
        return self._beat(event, now_ms)

    def _beat(self, event: Event, now_ms: int) -> Effects:
        effects = self.pulse.handle(event, now_ms)
        if isinstance(event, Broken) or any(isinstance(e, Probe) for e in effects):
            return self.view.handle(Broken(self.pulse.cause), now_ms) + effects
        return effects
