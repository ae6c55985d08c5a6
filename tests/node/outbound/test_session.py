"""What is really dialled: judged at each connection and each hop, by the address and not by the name."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from node.outbound.outbound import Outbound
from proto.errors import Unavailable


class Names(AbstractResolver):
    """Answers what it is told, one answer after the other, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(said) for name, said in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        self.asked.append(host)
        said = self.answers.get(host)
        if said is None:
            raise OSError(f"no name {host}")
        addresses = said.pop(0) if len(said) > 1 else said[0]
        return [
            ResolveResult(hostname=host, host=a, port=port, family=socket.AF_INET, proto=0, flags=0) for a in addresses
        ]

    async def close(self) -> None:
        return


@dataclass
class Site:
    port: int = 0
    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((request.path_qs, dict(request.headers)))
        match request.path:
            case "/to":
                return web.Response(status=302, headers={"Location": request.query["url"], "Set-Cookie": "a=b"})
            case "/round":
                return web.Response(status=302, headers={"Location": "/round"})
            case "/long":
                return web.Response(body=b"x" * 5_000)
            case "/bomb":
                response = web.Response(body=b"0" * 100_000)
                response.enable_compression(web.ContentCoding.gzip)
                return response
            case "/hang":
                await request.read()
                assert request.transport is not None
                request.transport.abort()
        return web.json_response({"path": request.path})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", site.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


async def refusal(session: Any, url: str) -> str:
    with pytest.raises(Unavailable) as caught:
        await session.get(url)
    return str(caught.value.message)


async def test_what_an_operator_wrote_is_dialled_as_written_and_nothing_else_at_home(site: Site) -> None:
    async with Outbound().session("keys of the issuer", allow=[site.url("/keys")]) as session:
        assert (await session.get(site.url("/x"))).json() == {"path": "/x"}
        answer = await session.post(site.url("/form"), {"a": "b"})
        assert answer.status == 200
        told = await refusal(session, f"http://127.0.0.1:{site.port + 1}/")
    assert told.startswith("keys of the issuer: ")
    assert len(site.heard) == 2


async def test_a_name_is_judged_by_every_address_that_it_has(site: Site) -> None:
    names = Names(good_example=[["127.0.0.1"]], mixed_example=[["8.8.8.8", "10.0.0.1"]], none_example=[["::1"]])
    async with Outbound(["127.0.0.1"], names).session("a test") as session:
        with pytest.raises(Unavailable, match="must begin with https"):
            await session.get(site.url(host="good.example"))
        # Its one address is allowed; nobody answers TLS there.
        told = await refusal(session, f"https://good.example:{site.port}/")
        assert "cannot be reached" in told
        assert "10.0.0.1 is private" in await refusal(session, "https://mixed.example/")
        assert "::1 is loopback" in await refusal(session, "https://none.example/")
        assert "cannot be reached" in await refusal(session, "https://nowhere.example/")
    assert names.asked == ["good.example", "mixed.example", "none.example", "nowhere.example"]


async def test_a_name_that_changes_its_address_gains_nothing(site: Site) -> None:
    """DNS rebinding: public when it is checked, private when it is dialled."""
    names = Names(rebound_example=[["8.8.8.8"], ["127.0.0.1"]])
    outbound = Outbound((), names)
    assert outbound.check_url("https://rebound.example/") == "https://rebound.example/"
    connector = outbound.connector("a test")
    # What a check before the connection would have seen.
    await names.resolve("rebound.example")
    async with aiohttp.ClientSession(connector=connector) as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1 is loopback"):
            await client.get(f"http://rebound.example:{site.port}/")
    assert site.heard == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/"]
)
async def test_an_address_in_a_url_is_judged_at_the_connection_too(site: Site, url: str) -> None:
    async with aiohttp.ClientSession(connector=Outbound().connector("a test")) as client:
        with pytest.raises(Unavailable, match="may not be dialled"):
            await client.get(url.format(port=site.port))
        for other in ("http://2130706433/", "http://127.1/"):
            with pytest.raises((Unavailable, aiohttp.ClientError)):
                await client.get(other)
    assert site.heard == []


async def test_redirects_are_not_followed_unless_asked_for(site: Site) -> None:
    async with Outbound().session("a test", allow=[site.url()]) as session:
        answer = await session.get(site.url(f"/to?url={site.url('/there')}"))
    assert answer.status == 302
    assert len(site.heard) == 1


async def test_each_hop_of_a_redirect_is_judged(site: Site) -> None:
    async with Outbound().session("a test", allow=[site.url()], redirects_max=2) as session:
        for target in ("http://127.0.0.2/", "https://169.254.169.254/latest", "file:///etc/passwd", "https://[::1]/"):
            with pytest.raises(Unavailable):
                await session.get(site.url(f"/to?url={target}"))
        there = site.url("/there")
        assert (await session.get(site.url(f"/to?url={there}"))).url == there
        assert "more than 2 times" in await refusal(session, site.url("/round"))


async def test_even_a_client_that_follows_redirects_by_itself_is_judged_at_each(site: Site) -> None:
    async with Outbound().session("a test", allow=[site.url()]) as session:
        with pytest.raises(Unavailable, match="metadata service"):
            await session.client.get(site.url("/to?url=http://169.254.169.254/latest"))


async def test_headers_of_one_origin_do_not_go_to_another(site: Site) -> None:
    other = Site(site.port)
    hosts = [site.url(), other.url(host="localhost")]
    async with Outbound().session("a test", allow=hosts, redirects_max=1) as session:
        secret = {"Authorization": "Bearer hunter2"}
        await session.get(site.url(f"/to?url={site.url('/same')}"), secret)
        await session.get(site.url(f"/to?url={site.url('/other', host='localhost')}"), secret)
    heard = dict(site.heard)
    assert heard["/same"]["Authorization"] == "Bearer hunter2"
    assert "Authorization" not in heard["/other"]
    assert all("Cookie" not in headers for _, headers in site.heard)


async def test_an_answer_is_bounded_and_never_unpacked(site: Site) -> None:
    async with Outbound().session("a test", allow=[site.url()], bytes_max=1_000) as session:
        assert "longer than 1000 bytes" in await refusal(session, site.url("/long"))
        packed = await session.client.get(site.url("/bomb"), headers={"Accept-Encoding": "gzip"})
        assert len(await packed.read()) < 1_000
        assert "cannot be reached" in await refusal(session, site.url("/hang"))


async def test_no_proxy_is_taken_from_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.2:1")
    async with Outbound().session("a test", allow=[site.url()]) as session:
        assert (await session.get(site.url())).status == 200


async def test_what_is_no_object_is_not_taken_for_one(site: Site) -> None:
    async with Outbound().session("a test", allow=[site.url()]) as session:
        answer = await session.get(site.url("/long"))
        with pytest.raises(Unavailable, match=r"a test: .* gave no JSON object"):
            answer.json()
    assert repr(answer) == f"Fetched(200 5000 bytes from {site.url('/long')})"
