"""Run in a checkout of a release: two of its nodes meet, exchange records and calls and part; what they say is printed.

cd CHECKOUT && PYTHONPATH=. python record.py > frames.txt
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation import answering, asking, forward_stream, link, service
from federation.ca import init_ca
from federation.events import Liveness
from proto.calls import Call
from proto.frames import Farewell
from proto.records import Kind, Record
from tests.wire.test_sync import Mesh, at, tool

said: dict[str, str] = {}


def listen(module: Any, function: str, direction: str) -> None:
    """Note what `function` of a module makes of a frame."""
    write: Callable[..., Any] = getattr(module, function)

    def noting(*args: Any) -> Any:
        wire = write(*args)
        said.setdefault(f"{direction} {wire.SerializeToString(deterministic=True).hex()}", direction)
        return wire

    setattr(module, function, noting)


async def main() -> None:
    listen(link, "up_to_wire", "sync-up")
    listen(service, "down_to_wire", "sync-down")
    listen(forward_stream, "call_up_to_wire", "call-up")
    for module in (answering, asking):
        if hasattr(module, "call_down_to_wire"):
            listen(module, "call_down_to_wire", "call-down")
    home = Path(tempfile.mkdtemp())
    init_ca(home / "ca", "mesh.test")
    mesh = Mesh(home / "ca", home)
    server = Record.of(Kind.SERVER, "time", {"health": "up", "tools": 2})
    a, a_heard = await mesh.node("a", records=[server, tool("now"), tool("then")])
    b, b_heard = await mesh.node("b", at(a), records=[tool("bad")])
    await b_heard.until(lambda: len(b_heard.ids("a")) == 3)
    await a_heard.until(lambda: len(a_heard.ids("b")) == 1)
    a.publish([tool("now", "changed")], [tool("then").key])
    await b_heard.until(lambda: len(b_heard.ids("a")) == 2)

    class Nobody:
        def event(self, notification: dict[str, object]) -> None: ...

        async def request(self, request: dict[str, object]) -> Any: ...

    await b.target("a").call(Call("c1", "time", "tools/call", {"name": "now"}), Nobody())
    await b.target("a").call(Call("c2", "time", "tools/call", {"text": "x" * 50}), Nobody())
    a.set_draining(True)
    await b_heard.until(lambda: b_heard.state("a") is Liveness.DRAINING)
    await a.stop(Farewell.LEAVE)
    await b.stop(Farewell.RESTART)
    print("\n".join(said))


asyncio.run(main())
