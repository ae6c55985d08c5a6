"""POSTs as bytes against a server that writes its answers as bytes too."""

from __future__ import annotations

import asyncio
import gzip

import aiohttp
import pytest
from yarl import URL

from node.upstreams.client import client_for
from node.upstreams.posting import WRITE_BYTES, Posts, fields
from node.upstreams.spec import UpstreamSpec
from proto.errors import Invalid


class Bare:
    """Answers each request with `answer`, after all of it was read unless `hasty`. `heads` are what was asked."""

    def __init__(self):
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        self.hasty = False
        self.heads = []
        self.bodies = []
        self.connections = 0
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if not self.hasty:
                    self.bodies.append(await reader.readexactly(length))
                self.asked.set()
                writer.write(self.answer)
                await writer.drain()
                if b"close" in self.answer:
                    break
                if self.hasty:
                    await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@pytest.fixture
async def bare():
    server = Bare()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.url = URL(f"http://127.0.0.1:{port}/m%20cp?key=v")
    server.client = client_for(UpstreamSpec("posted", url=str(server.url)))
    server.posts = Posts(server.client, server.url, server.client.timeout)
    yield server
    await server.client.close()
    listening.close()


async def post(bare, body=b"[1]", headers=None):
    async with asyncio.timeout(20):
        reply = await bare.posts.send(bare.posts.head(headers or {}), b"X-More: 1\r\n", body, lambda: None)
        text = await reply.content.read()
    reply.keep()
    return reply, text


async def test_a_request_says_where_it_goes_and_what_it_is_once(bare):
    reply, text = await post(bare, headers={"user-agent": "other", "X-Key": "k"})
    assert (reply.status, text, bare.bodies) == (200, b"{}", [b"[1]"])
    line, *lines = bare.heads[0].decode().strip().split("\r\n")
    assert line == "POST /m%20cp?key=v HTTP/1.1"
    named = {name.lower(): value for name, value in (x.split(": ", 1) for x in lines)}
    assert len(named) == len(lines)
    assert named == {
        "host": f"127.0.0.1:{bare.url.port}",
        "accept-encoding": "gzip, deflate",
        "user-agent": "other",
        "content-type": "application/json",
        "x-key": "k",
        "x-more": "1",
        "content-length": "3",
    }


async def test_a_connection_is_kept_unless_the_server_ends_it(bare):
    await post(bare)
    await post(bare)
    assert bare.connections == 1
    bare.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    await post(bare)
    await post(bare)
    assert bare.connections == 2


async def test_interim_answers_are_passed_over_and_chunks_and_gzip_undone(bare):
    packed = gzip.compress(b'{"a": 1}')
    bare.answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    )
    reply, text = await post(bare)
    assert (reply.status, reply.content_type, text) == (200, "application/json", b'{"a": 1}')


async def test_a_long_body_leaves_in_parts_and_comes_whole(bare):
    body = bytes(range(256)) * (WRITE_BYTES // 64)
    await post(bare, body)
    assert bare.bodies == [body]


async def test_a_server_that_refuses_a_long_body_unread_is_heard(bare):
    bare.hasty = True
    bare.answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    reply, text = await post(bare, b"x" * (64 * WRITE_BYTES))
    assert (reply.status, text) == (413, b"no")
    # What had not left never will, so the connection is of no use to anybody else.
    bare.hasty = False
    await post(bare)
    assert bare.connections == 2


async def test_what_is_no_http_is_an_error_of_the_client_and_leaves_no_connection(bare):
    bare.answer = b"SSH-2.0-server\r\n\r\n"
    with pytest.raises(aiohttp.ClientError, match=r"its answer is not HTTP/1\.1"):
        await post(bare)
    async with asyncio.timeout(10):
        await bare.gone.wait()


async def test_who_gives_up_closes_the_connection(bare):
    bare.answer = b""
    asking = asyncio.create_task(post(bare))
    await bare.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(10):
        await bare.gone.wait()


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nb", "a\0"])
def test_a_header_value_that_would_end_its_line_is_refused(value):
    with pytest.raises(Invalid, match="'X-Name' would hold a line break"):
        fields({"X-Name": value})
