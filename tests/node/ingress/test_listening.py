"""What one listen says, and when it gives its client up."""

from __future__ import annotations

from typing import Any

from node.ingress.listening import Listening
from proto import jsons

META = {"io.modelcontextprotocol/subscriptionId": 1}


class Full:
    """An `Out` that takes so many messages and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[dict[str, Any]] = []

    def send(self, message: bytes, *, keep: bool = False) -> bool:
        if len(self.taken) >= self.room:
            return False
        self.taken.append(jsons.loads(message))
        return True


async def test_a_client_that_a_change_cannot_be_told_to_is_left_rather_than_misled() -> None:
    lost: list[bool] = []
    out = Full(2)
    listening = Listening(1, frozenset({"tools"}), out, "debug", lambda: lost.append(True))
    listening.acknowledge({"resourceSubscriptions": ["a:b"]})
    listening.event({"method": "notifications/resources/updated", "params": {"uri": "a:b"}})
    assert [message["params"]["_meta"] for message in out.taken] == [META, META]
    # A log message may go missing.
    listening.event({"method": "notifications/message", "params": {"level": "error", "data": 1}})
    assert lost == []
    listening.changed("tools")
    assert lost == [True]


async def test_logs_come_at_the_level_that_was_asked_for_and_above() -> None:
    for level, expected in (("", []), ("loud", []), ("warning", ["warning", "emergency"])):
        out = Full(10)
        listening = Listening(1, frozenset(), out, level, lambda: None)
        listening.acknowledge({})
        for said in ("debug", "warning", "emergency"):
            listening.event({"method": "notifications/message", "params": {"level": said, "data": 1}})
        assert [message["params"]["level"] for message in out.taken[1:]] == expected


async def test_a_server_that_speaks_before_it_acknowledges_is_acknowledged_first() -> None:
    out = Full(10)
    listening = Listening(1, frozenset(), out, "", lambda: None)
    listening.event({"method": "notifications/resources/updated", "params": {"uri": "a:b"}})
    listening.event({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"late": 1}}})
    assert [message["method"].rpartition("/")[2] for message in out.taken] == ["acknowledged", "updated"]
