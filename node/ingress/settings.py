"""The bounds and choices of the agents' edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Configured(Protocol):
    """What an operator chooses: the section `http`, as far as it concerns agents."""

    @property
    def body_bytes_max(self) -> int: ...
    @property
    def sessions_max(self) -> int: ...
    @property
    def session_idle_s(self) -> float: ...
    @property
    def session_events_max(self) -> int: ...
    @property
    def session_events_bytes_max(self) -> int: ...
    @property
    def events_bytes_max(self) -> int: ...


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """Every bound of the ingress, and what happens at it.

    `body_bytes_max`       a longer POST body is refused (413).
    `body_read_s`          a body that takes longer to arrive is refused (408).
    `connections_max`      two-way connections (`/sse`, `/ws`); one more is refused (503).
    `sessions_max`         legacy sessions; the longest idle one makes room, 503 if none is idle.
    `session_idle_s`       a session without a request, a running call or an open stream for so long is forgotten (404).
    `session_calls_max`    calls of one session running at once; one more is `Exhausted`.
    `session_streams_max`  GET streams of one session; one more ends the oldest.
    `session_events_max`, `session_events_bytes_max`
                           events of one session's streams that can be resumed; the oldest are forgotten, the newest
                           never.
    `events_bytes_max`     the same of all sessions; those of the sessions used the longest ago are forgotten.
    `session_subscriptions_max` resources that one session is subscribed to; one more is refused.
    `retry_ms`             a client is told to wait so long before it resumes a stream (2025-11-25).
    `batch_max`            messages in one 2025-03-26 batch; a longer one is refused.
    `listens_max`          open `subscriptions/listen` streams; one more is `Exhausted`.
    `stream_frames_max`, `stream_bytes_max`
                           what may wait on one SSE stream; beyond it the oldest notifications are dropped and logged.
    `promote_after_s`      a POST unanswered for so long becomes an SSE stream, so that keep-alives can be sent.
    `resumable_after_s`    the same where a stream begins with an id (2025-11-25): an answer that takes longer is not
                           lost with its connection.
    `ping_s`               an SSE comment after so much silence, against idle timeouts of proxies.
    `stall_s`              a client that takes nothing from its stream for so long is cut off.
    `list_ttl_ms`          freshness hint on discover, lists and resource reads (2026-07-28) that carry none.
    """

    body_bytes_max: int = 4 * 1024 * 1024
    body_read_s: float = 30.0
    connections_max: int = 10_000
    sessions_max: int = 10_000
    session_idle_s: float = 1_800.0
    session_calls_max: int = 256
    session_streams_max: int = 4
    session_events_max: int = 256
    session_events_bytes_max: int = 4 * 1024 * 1024
    events_bytes_max: int = 256 * 1024 * 1024
    session_subscriptions_max: int = 256
    retry_ms: int = 1_000
    batch_max: int = 100
    listens_max: int = 10_000
    stream_frames_max: int = 256
    stream_bytes_max: int = 8 * 1024 * 1024
    promote_after_s: float = 5.0
    resumable_after_s: float = 1.0
    ping_s: float = 15.0
    stall_s: float = 60.0
    list_ttl_ms: int = 5_000

    @classmethod
    def of(cls, http: Configured) -> IngressSettings:
        return cls(
            body_bytes_max=http.body_bytes_max,
            sessions_max=http.sessions_max,
            session_idle_s=http.session_idle_s,
            session_events_max=http.session_events_max,
            session_events_bytes_max=http.session_events_bytes_max,
            events_bytes_max=http.events_bytes_max,
        )
