"""What the driver holds of one peer besides its pure core: the link, the line, and what operators want to see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from federation.line import Line
from federation.link import Link
from federation.log import Subscriber
from federation.peer import Peer
from federation.status import PeerStatus
from proto.frames import Beat, Down, Welcome
from proto.records import Kind


@dataclass(slots=True)
class Known:
    """One peer of this process."""

    core: Peer
    link: Link
    dialling: asyncio.Task[None] | None = None
    line: Line | None = None
    last_error: str = ""
    software: str = ""
    beat: Beat | None = None
    skew_ms: int | None = None
    behind_since_ms: int | None = None

    def told(self, frame: Down, wall_ms: int) -> None:
        """Remember what a frame says for operators; nothing is decided by it."""
        match frame:
            case Beat():
                self.beat = frame
                self.skew_ms = frame.wall_ms - wall_ms if frame.wall_ms else None
            case Welcome():
                self.software = frame.software

    def measure_lag(self, now_ms: int) -> None:
        if self.core.view.lag_seq == 0:
            self.behind_since_ms = None
        elif self.behind_since_ms is None:
            self.behind_since_ms = now_ms

    def status(self, now_ms: int, subscribers: Sequence[Subscriber]) -> PeerStatus:
        view, pulse, behind = self.core.view, self.core.pulse, self.behind_since_ms
        return PeerStatus(
            node=self.link.peer,
            address=self.link.address or next(iter(self.link.addresses), ""),
            state=pulse.state,
            cause=pulse.cause,
            since_ms=now_ms - pulse.since_ms,
            version=view.version,
            lag_seq=view.lag_seq,
            lag_s=0.0 if behind is None else (now_ms - behind) / 1000,
            records=view.size,
            tools=sum(key.kind is Kind.TOOL for key in view.records),
            rejected=tuple((key, reason) for key, (_, reason) in view.rejected.items()),
            refused_there=tuple((r.key, r.reason) for s in subscribers for r in s.rejects),
            last_error=self.last_error,
            skew_ms=self.skew_ms,
            software=self.software,
            rtt_ms=self.link.rtt_ms or None,
            listed=view.listed,
            stale=view.stale_since_ms is not None,
            load=self.beat.load if self.beat else 0.0,
            peer_lag_ms=self.beat.lag_ms if self.beat else 0.0,
            subscribed=bool(subscribers),
        )
