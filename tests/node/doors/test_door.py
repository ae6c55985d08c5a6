"""The one way in, over real sockets; 127.0.0.2 and its like are other machines to it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket

import pytest

from node.doors.addresses import Addresses, networks
from node.doors.door import DoorSettings
from node.doors.names import Names
from node.settings.limits import AddressLimit
from tests.node.doors.conftest import WAIT_S, Opens, status

COUNTED = AddressLimit(requests_per_s=0.01, burst=2, loopback=True)


def header(answer: bytes, name: str) -> str:
    lines = answer.partition(b"\r\n\r\n")[0].decode().splitlines()[1:]
    found = [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.lower() == name.lower()]
    assert len(found) <= 1, found
    return found[0] if found else ""


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


async def test_another_name_is_misdirected_whatever_the_path(opens: Opens) -> None:
    port = await opens()
    for path in ("/mcp", "/healthz", "/nothing/there"):
        answer = await port.get(path, Host="evil.example.org")
        assert status(answer) == 421, path
    assert port.asked == []
    assert port.listener.doors.refusals == {421: 3}
    told = json.loads(body(await port.get("/mcp", Host="evil.example.org")))
    assert told["error"]["message"] == "this node is not called 'evil.example.org'; add it to http.allowed_hosts"
    problem = json.loads(body(await port.get("/healthz", Host="evil.example.org")))
    assert (problem["status"], problem["title"]) == (421, "Misdirected Request")


async def test_a_listed_name_is_this_nodes(opens: Opens) -> None:
    port = await opens(DoorSettings(names=Names.of(["mcp.example.org"], [])))
    assert status(await port.get(Host="MCP.example.org:7400")) == 200


async def test_a_page_of_another_origin_is_refused_and_a_local_or_listed_one_is_not(opens: Opens) -> None:
    listed = "https://chat.example.org"
    port = await opens(DoorSettings(names=Names.of([], [listed])))
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://[::2]"):
        assert status(await port.get(Origin=origin)) == 403, origin
    assert port.asked == []
    for origin in (listed, "http://localhost:6274", "http://127.0.0.1", "http://[::1]:80"):
        assert status(await port.get(Origin=origin)) == 200, origin
    two = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {listed}\r\nOrigin: https://evil.example\r\n\r\n"
    wire = await port.open(two.encode())
    assert status(await wire.until(b"\r\n\r\n")) == 403
    wire.close()


async def test_a_page_of_this_node_may_call_it_by_whichever_name_it_came_under(opens: Opens) -> None:
    port = await opens(DoorSettings(names=Names.of(["gw.example.org"], [])))
    own = {"Host": "gw.example.org:7400"}
    assert status(await port.get(**own, Origin="http://gw.example.org:7400")) == 200
    for other in ("https://gw.example.org:7400", "http://gw.example.org", "http://gw.example.org:7401"):
        assert status(await port.get(**own, Origin=other)) == 403, other
    # The name must be the node's first.
    assert status(await port.get(Host="evil.example", Origin="http://evil.example")) == 421


async def test_addresses_that_are_not_admitted_get_no_connection(opens: Opens) -> None:
    port = await opens(DoorSettings(addresses=Addresses.of(["127.0.0.0/8"], ["127.0.0.2"])))
    assert status(await port.get()) == 200
    assert await port.get(source="127.0.0.2") == b""
    assert len(port.asked) == 1


async def test_behind_a_trusted_proxy_the_clients_address_is_judged(opens: Opens) -> None:
    settings = DoorSettings(addresses=Addresses.of([], ["203.0.113.0/24"]), trusted=networks(["127.0.0.2"]))
    port = await opens(settings)
    said = {"X_Forwarded_For": "198.51.100.1, 203.0.113.7"}
    assert status(await port.get(source="127.0.0.2", **said)) == 403
    assert status(await port.get(source="127.0.0.2", X_Forwarded_For="203.0.113.7, 198.51.100.1")) == 200
    # From anybody else the header is worth nothing.
    assert status(await port.get(source="127.0.0.3", **said)) == 200


async def test_an_address_has_its_rate_and_is_told_when_to_come_again(opens: Opens) -> None:
    port = await opens(DoorSettings(limit=COUNTED, trusted=networks(["127.0.0.9"])))
    answers = [await port.get() for _ in range(3)]
    assert [status(a) for a in answers] == [200, 200, 429]
    assert 90 <= int(header(answers[2], "Retry-After")) <= 100
    # Another connection, header or key is the same address; another client of a proxy is not.
    assert status(await port.get(Authorization="Bearer good", X_Forwarded_For="198.51.100.9")) == 429
    for client in ("198.51.100.1", "198.51.100.2"):
        assert status(await port.get(source="127.0.0.9", X_Forwarded_For=client)) == 200


async def test_credentials_are_not_looked_at_where_too_many_were_wrong(opens: Opens) -> None:
    limit = AddressLimit(failures_per_min=0.6, failures_burst=2, loopback=True)
    port = await opens(DoorSettings(limit=limit))
    for _ in range(2):
        assert status(await port.get(Authorization="Bearer bad")) == 401
    refused = await port.get(Authorization="Bearer good")
    assert status(refused) == 429
    assert 90 <= int(header(refused, "Retry-After")) <= 100
    assert len(port.asked) == 2
    assert port.barred == ["127.0.0.1"], "and is told of, for the audit"
    # Who shows none, and who comes from elsewhere, is served.
    assert status(await port.get()) == 200
    assert status(await port.get(source="127.0.0.2", Authorization="Bearer good")) == 200


async def test_one_connection_too_many_is_told_so_and_closed(opens: Opens) -> None:
    port = await opens(DoorSettings(connections_per_address_max=2, connections_max=3))
    open_ones = [await port.open() for _ in range(2)]
    full = await port.get()
    assert status(full) == 503
    assert header(full, "Connection") == "close"
    assert b"as many connections as it may" in body(full)
    assert int(header(full, "Content-Length")) == len(body(full))
    elsewhere = await port.open(source="127.0.0.2")
    assert status(await port.get(source="127.0.0.3")) == 503
    for wire in (*open_ones, elsewhere):
        wire.close()
        await wire.writer.wait_closed()
    assert port.listener.doors.connections.refused == 2
    async with asyncio.timeout(WAIT_S):
        # A node hears of a connection's end when its loop comes to it.
        while status(await port.get()) != 200:
            pass


async def test_every_answer_is_guarded_and_none_says_what_software_it_is(opens: Opens) -> None:
    port = await opens()
    answers = {
        "served": await port.get(),
        "no route": await port.get("/nothing"),
        "no method": await port.say(b"FROB /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        "expectation": await port.get(Expect="the unexpected"),
        "refused": await port.get(Host="evil.example.org"),
        "a bug": await port.get("/mcp/bug"),
        "no HTTP": await port.say(b"\x16\x03\x01 what\r\n\r\n"),
    }
    for what, answer in answers.items():
        assert status(answer) >= 200, what
        assert header(answer, "X-Content-Type-Options") == "nosniff", what
        assert header(answer, "Content-Security-Policy") == "default-src 'none'; frame-ancestors 'none'", what
        assert header(answer, "Referrer-Policy") == "no-referrer", what
        assert header(answer, "Cache-Control") == "no-store", what
        assert not header(answer, "Server"), what
        assert not header(answer, "Strict-Transport-Security"), what
        for word in (b"aiohttp", b"Python", b"Traceback", b"secret"):
            assert word not in answer, what


async def test_a_bug_is_in_the_log_under_the_id_that_the_client_is_told(
    opens: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    port = await opens()
    answer = await port.get("/mcp/bug")
    assert status(answer) == 500
    told = json.loads(body(answer))["detail"]
    assert told.rpartition(" ")[2] in caplog.text
    assert "the secret of /etc/secret" in caplog.text


@pytest.mark.parametrize("said", [b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_body_that_does_not_end_is_given_up_whichever_route_reads_it(opens: Opens, said: bytes) -> None:
    port = await opens(DoorSettings(body_s=0.3))
    assert status(await port.say(said)) == 0
    assert port.asked == []


async def test_a_later_head_that_does_not_end_is_given_up_too(opens: Opens) -> None:
    port = await opens(DoorSettings(idle_s=0.3))
    wire = await port.open(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await wire.until(b"served")
    wire.writer.write(b"GET /mcp HTTP/1.1\r\nHost: local")
    assert await wire.rest() == b""
    wire.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await opens(DoorSettings(stall_s=0.3))
    doors, gone = port.listener.doors, asyncio.Event()
    leave = doors.leave
    monkeypatch.setattr(doors, "leave", lambda visitor: (leave(visitor), gone.set()))
    wire = await port.open(b"GET /mcp/long HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(WAIT_S):
        await gone.wait()
    wire.writer.transport.abort()


async def test_a_handler_that_takes_its_time_is_left_alone(opens: Opens) -> None:
    port = await opens(DoorSettings(body_s=0.06))
    wire = await port.open(b"POST /mcp/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
    wire.writer.write(b"body")
    async with asyncio.timeout(WAIT_S):
        await port.came.wait()
    # Given up after all the looks that would have ended the other.
    await port.say(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
    port.release.set()
    assert status(await wire.until(b"served")) == 200
    wire.close()


async def test_what_was_refused_is_not_in_the_log_for_everybody_to_fill(
    opens: Opens, caplog: pytest.LogCaptureFixture
) -> None:
    port = await opens()
    with caplog.at_level(logging.INFO):
        await port.get(Host="evil.example.org")
        await port.get("/mcp//x")
        await port.say(b"junk\r\n\r\n")
    assert not caplog.records
