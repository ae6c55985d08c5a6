"""How much of a node's port for peers anybody who reaches it can take up."""

from __future__ import annotations

import asyncio

import pytest

from federation import tls
from tests.wire.meshes import Mesh, at, tool

WAIT_S = 20.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(WAIT_S):
        try:
            while await reader.read(4_096):
                pass
        except ConnectionError:
            return


async def test_one_connection_too_many_is_closed_and_peers_that_are_there_stay(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CONNECTIONS_MAX", 4)
    node, heard = await mesh.node("node")
    good, good_heard = await mesh.node("good", at(node))
    good.publish([tool("before")], ())
    await heard.until(lambda: "time/before" in heard.ids("good"))
    host, _, port = at(node).rpartition(":")
    mute = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    # Whoever is beyond the bound is closed without having said a word; within it, handshakes have their time.
    done, _ = await asyncio.wait(
        [asyncio.ensure_future(ended(reader)) for reader, _ in mute], return_when=asyncio.FIRST_COMPLETED
    )
    assert done
    for feed, hears, owner in ((node, good_heard, "node"), (good, heard, "good")):
        feed.publish([tool("after")], ())
        await hears.until(lambda hears=hears, owner=owner: "time/after" in hears.ids(owner))  # type: ignore[misc]
    for _, writer in mute:
        writer.close()


async def test_what_is_no_tls_is_not_answered(mesh: Mesh) -> None:
    node, _ = await mesh.node("node")
    host, _, port = at(node).rpartition(":")
    for said in (PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1_000):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        async with asyncio.timeout(WAIT_S):
            answer = await reader.read(4_096)
        # A TLS alert at most (RFC 8446 §6).
        assert answer == b"" or answer[0] == 21
        writer.close()
