"""SSE streams that outlive their connections: what was sent on one is kept for a client that comes back for it.

An event's id is `STREAM.INDEX`: a stream of its session (`p…` of a POST, `g…` of a GET) and the event's place in it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from node.ingress.reply import Connection
from node.ingress.settings import IngressSettings
from proto import jsons
from proto.errors import Invalid

_EVENT_ID = re.compile(r"([pg][0-9]{1,15})\.([0-9]{1,15})")


@dataclass(slots=True)
class Kept:
    """Bytes of events kept in all sessions together. Over the bound, `relieve` is asked to forget some."""

    bytes_max: int
    relieve: Callable[[], None] = lambda: None
    bytes: int = 0

    def add(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.bytes_max:
            self.relieve()


class ResumableStream:
    """One stream of a session, an `Out`; `connection` is who reads it now, and None while nobody does."""

    __slots__ = ("_events", "_first", "_store", "connection", "ended", "name")

    def __init__(self, store: EventStore, name: str) -> None:
        self.name = name
        self.connection: Connection | None = None
        self.ended = False
        self._store = store
        # Events that are kept, by index: the first of them has index `_first`. Index 0 is the start, before any event.
        self._events: list[tuple[bytes, bool]] = []
        self._first = 1

    def __repr__(self) -> str:
        connected = "connected" if self.connection else "unread"
        return f"ResumableStream({self.name}, {len(self._events)} kept, {'ended' if self.ended else connected})"

    @property
    def start_id(self) -> str:
        """The id of the place before the first event: who has seen nothing else resumes here."""
        return f"{self.name}.0"

    @property
    def forgettable(self) -> bool:
        return not self._events and self.connection is None and (self.ended or self.name[0] == "g")

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        """To the client, now or when it comes back. False: the stream has ended."""
        if self.ended:
            return False
        message = jsons.compact(message)
        event_id = f"{self.name}.{self._first + len(self._events)}"
        self._events.append((message, keep))
        self._store.kept(self, len(message))
        if self.connection is not None:
            self.connection.push(message, keep=keep, event_id=event_id)
        return True

    def connect(self, connection: Connection, after: int | None = None) -> None:
        """Events go to `connection` from now on, those kept with an index above `after` first.

        A connection that was there before is ended: it is a client's that came back before it was missed. If
        events that should follow `after` are kept no more, the stream goes on without them.
        """
        if self.connection is not None:
            self.connection.close()
        self.connection = connection
        if after is not None:
            for i in range(max(0, after + 1 - self._first), len(self._events)):
                message, keep = self._events[i]
                connection.push(message, keep=keep, event_id=f"{self.name}.{self._first + i}")
        if self.ended:
            self.disconnect(connection)
            connection.close()

    def disconnect(self, connection: Connection) -> None:
        """The connection is lost or over; what is kept stays."""
        if self.connection is connection:
            self.connection = None
            self._store.settle(self)

    def retract(self, event_id: str) -> None:
        """Forget the events from this one on, which never left: they are sent elsewhere."""
        self._store.retract(self, event_id)

    def end(self, last: bytes | None = None) -> None:
        """Nothing follows `last`."""
        if self.ended:
            return
        if last is not None:
            self.send(last, keep=True)
        self.ended = True
        if self.connection is not None:
            self.connection.close()
        self._store.settle(self)

    def drop_oldest(self) -> int:
        """Forget the oldest event; its length."""
        message, _ = self._events.pop(0)
        self._first += 1
        return len(message)

    def drop_from(self, index: int) -> list[int]:
        """Forget the events from `index` on, their indices with them; their lengths."""
        since = max(0, index - self._first)
        lengths = [len(message) for message, _ in self._events[since:]]
        del self._events[since:]
        return lengths


class EventStore:
    """The streams of one session, and their events: at most so many and so many bytes, in all streams together.

    At either bound the oldest event is forgotten, the newest never, however long. A stream is forgotten with its
    last event once nobody reads it and nothing more will come on it.
    """

    __slots__ = ("_bytes", "_bytes_max", "_events_max", "_kept", "_numbered", "_order", "_streams")

    def __init__(self, settings: IngressSettings, kept: Kept) -> None:
        self._events_max = settings.session_events_max
        self._bytes_max = settings.session_events_bytes_max
        self._kept = kept
        self._numbered = 0
        self._streams: dict[str, ResumableStream] = {}
        self._order: deque[ResumableStream] | None = None
        self._bytes = 0

    def __repr__(self) -> str:
        return f"EventStore({len(self._streams)} streams, {len(self._order or ())} events, {self._bytes} bytes)"

    def open(self, kind: str) -> ResumableStream:
        """A new stream; `kind` is `p` (of a POST) or `g` (of a GET)."""
        self._numbered += 1
        stream = ResumableStream(self, f"{kind}{self._numbered}")
        self._streams[stream.name] = stream
        return stream

    def find(self, event_id: str) -> tuple[ResumableStream | None, int]:
        """Where the event with this id stands; None for a stream of a GET that is forgotten.

        Raises `Invalid` for an id that was never given, and for a POST's stream that is forgotten: its answer is lost.
        """
        matched = _EVENT_ID.fullmatch(event_id)
        if matched is None or int(matched[1][1:]) > self._numbered:
            raise Invalid("Last-Event-ID is not the id of an event of this session; send one that was received in it")
        stream = self._streams.get(matched[1])
        if stream is None and matched[1][0] == "p":
            raise Invalid(
                "Last-Event-ID names a stream whose events are kept no more; send the request anew if that is safe"
            )
        return stream, int(matched[2])

    def kept(self, stream: ResumableStream, size: int) -> None:
        """`stream` has a new event, the newest of all."""
        if self._order is None:
            self._order = deque()
        self._order.append(stream)
        self._bytes += size
        while len(self._order) > self._events_max or (self._bytes > self._bytes_max and len(self._order) > 1):
            self._forget_oldest(self._order)
        self._kept.add(size)

    def settle(self, stream: ResumableStream) -> None:
        """Forget the stream if nothing is left of it."""
        if stream.forgettable:
            self._streams.pop(stream.name, None)

    def retract(self, stream: ResumableStream, event_id: str) -> None:
        """The events of `stream` from this one on never left: they are another's to send."""
        lengths = stream.drop_from(int(event_id.rpartition(".")[2]))
        self._released(sum(lengths))
        newest_first = list(reversed(self._order or ()))
        for _ in lengths:
            newest_first.remove(stream)
        self._order = deque(reversed(newest_first))
        self.settle(stream)

    def clear(self) -> int:
        """Forget all events; how many bytes that frees."""
        freed = self._bytes
        while self._order:
            self._forget_oldest(self._order)
        return freed

    def end(self) -> None:
        """The session is over: end all streams and forget everything."""
        for stream in list(self._streams.values()):
            stream.end()
        self.clear()

    def _forget_oldest(self, order: deque[ResumableStream]) -> None:
        stream = order.popleft()
        self._released(stream.drop_oldest())
        self.settle(stream)

    def _released(self, size: int) -> None:
        self._bytes -= size
        self._kept.bytes -= size
