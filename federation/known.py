"""What the driver holds of one peer besides its pure core: the link, the line, and what operators want to see."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from federation.credentials import Credentials
from federation.events import Liveness
from federation.line import Line
from federation.link import Link
from federation.log import Subscriber
from federation.peer import Peer
from federation.status import HISTORY_MAX, REJECTED_SHOWN, PeerStatus, Transition
from federation.traffic import Traffic
from proto.frames import Beat, Down, Welcome
from proto.names import NodeId
from proto.versions import common


@dataclass(slots=True)
class Known:
    """One peer of this process. Times are monotonic milliseconds, but for those of `history`."""

    core: Peer
    link: Link
    traffic: Traffic
    found_ms: int = 0
    """When discovery last named it, or it dialled this node."""
    dialling: asyncio.Task[None] | None = None
    line: Line | None = None
    last_error: str = ""
    welcome: Welcome | None = None
    beat: Beat | None = None
    skew_ms: int | None = None
    framed_ms: int | None = None
    behind_since_ms: int | None = None
    history: deque[Transition] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    @property
    def node(self) -> NodeId:
        return self.link.peer

    def told(self, frame: Down, now_ms: int, wall_ms: int) -> None:
        """Remember what a frame says for operators; nothing is decided by it."""
        self.framed_ms = now_ms
        match frame:
            case Beat():
                self.beat = frame
                self.skew_ms = frame.wall_ms - wall_ms if frame.wall_ms else None
            case Welcome():
                self.welcome = frame

    def became(self, state: Liveness, cause: str, wall_ms: int) -> None:
        self.history.append(Transition(wall_ms, state, cause))

    def measure_lag(self, now_ms: int) -> None:
        if self.core.view.lag_seq == 0:
            self.behind_since_ms = None
        elif self.behind_since_ms is None:
            self.behind_since_ms = now_ms

    def _lag_s(self, now_ms: int) -> float:
        view, pulse = self.core.view, self.core.pulse
        if pulse.state is Liveness.LEFT:
            return 0.0
        # What may have changed since its last word is not known; from an earlier life, since the view is stale.
        unheard_ms = None if view.stale_since_ms is None else self.framed_ms or view.stale_since_ms
        since = [ms for ms in (self.behind_since_ms, unheard_ms) if ms is not None]
        return max(0, now_ms - min(since)) / 1000 if since else 0.0

    def status(
        self, now_ms: int, own_seq: int, subscribers: Sequence[Subscriber], dialled_with: Credentials | None = None
    ) -> PeerStatus:
        """`dialled_with`: what it showed as a subscriber. Costs nothing that grows with the records."""
        view, pulse, welcome = self.core.view, self.core.pulse, self.welcome
        shown = self.link.credentials or dialled_with
        return PeerStatus(
            node=self.node,
            address=self.link.address or next(iter(self.link.addresses), ""),
            state=pulse.state,
            cause=pulse.cause,
            since_ms=now_ms - pulse.since_ms,
            heard_ms=None if self.framed_ms is None else now_ms - self.framed_ms,
            history=tuple(self.history),
            version=view.version,
            lag_seq=view.lag_seq,
            lag_s=self._lag_s(now_ms),
            records=view.size,
            tools=view.tools,
            rejected=tuple((key, reason) for key, (_, reason) in islice(view.rejected.items(), REJECTED_SHOWN)),
            rejected_count=len(view.rejected),
            refused_there=tuple((r.key, r.reason) for s in subscribers for r in s.rejects),
            hash_matches=view.hash_matches,
            last_error=self.last_error,
            skew_ms=self.skew_ms,
            software=welcome.software if welcome else next((s.software for s in subscribers), ""),
            protocol=welcome.protocol if welcome else 0,
            features=tuple(sorted(common(welcome.features))) if welcome else (),
            roles=tuple(sorted(shown.roles)) if shown else (),
            certificate_expires=shown.not_after if shown else None,
            rtt_ms=self.link.rtt_ms or None,
            listed=view.listed,
            stale=view.stale_since_ms is not None,
            load=self.beat.load if self.beat else 0.0,
            peer_lag_ms=self.beat.lag_ms if self.beat else 0.0,
            subscribed=bool(subscribers),
            rates=self.traffic.rates(now_ms),
            totals=self.traffic.totals(),
            lacks=own_seq - max(s.acked for s in subscribers) if subscribers else None,
        )
