"""Who may talk to etcd: mutual TLS, passwords, tokens that are forgotten, rights that are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from federation.ca import init_ca, issue
from federation.etcd.client import EtcdClient
from federation.etcd.files import load_files
from federation.etcd.settings import Endpoint, EtcdFiles, EtcdSettings
from proto.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from proto.names import NodeId
from tests.wire.etcd_server import Etcd, Pem, need_etcd, single

pytestmark = pytest.mark.timeout(60)
MINE = b"/mesh/nodes/"
PASSWORD = "open sesame"


def pem_files(directory: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Pem:
    init_ca(directory, "etcd.test")
    server = issue(directory, NodeId.of("etcd.test", "eu", "server"), directory / "server", hosts=hosts)
    client = issue(directory, NodeId.of("etcd.test", "eu", "client"), directory / "client")
    return Pem(server.ca, server.cert, server.key, client.cert, client.key)


def settings(server: Etcd, files: EtcdFiles | None = None, username: str = "", password: str = "") -> EtcdSettings:
    return EtcdSettings((Endpoint.parse(server.url),), files, username, password, call_s=2.0, quiet_s=0.5)


@pytest.fixture(scope="module")
def tls_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    need_etcd()
    directory = tmp_path_factory.mktemp("etcd-tls")
    server = single(directory, pem=pem_files(directory / "pem"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def auth_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """The user `node` may read and write below MINE; `root` everything."""
    need_etcd()
    server = single(tmp_path_factory.mktemp("etcd-auth"))
    for command in (
        "user add root:root",
        "user grant-role root root",
        "role add nodes",
        f"role grant-permission nodes --prefix=true readwrite {MINE.decode()}",
    ):
        server.ctl(*command.split())
    server.ctl("user", "add", f"node:{PASSWORD}")
    server.ctl("user", "grant-role", "node", "nodes")
    server.ctl("auth", "enable")
    yield server
    server.stop()


async def test_mutual_tls_serves_whoever_has_a_certificate(tls_etcd: Etcd) -> None:
    pem = tls_etcd.pem
    assert pem is not None
    files = load_files(pem.ca, pem.client_cert, pem.client_key)
    async with EtcdClient(settings(tls_etcd, files)) as etcd:
        lease = await etcd.grant(60)
        assert await etcd.create(MINE + b"tls", b"1", lease) is None
        await etcd.keep_alive(lease)
        start = (await etcd.list(MINE, 5)).revision + 1
        async with aclosing(etcd.watch(MINE, start)) as batches:
            tls_etcd.ctl("put", (MINE + b"tls").decode(), "2")
            async with asyncio.timeout(10):
                (change,) = await anext(batches)
            assert change.pair is not None
            assert change.pair.value == b"2"


async def test_without_a_certificate_nothing_is_served(tls_etcd: Etcd) -> None:
    pem = tls_etcd.pem
    assert pem is not None
    async with EtcdClient(settings(tls_etcd, load_files(pem.ca))) as etcd:
        with pytest.raises(Unavailable, match=r"refuses our certificate|ends the connection"):
            await etcd.list(MINE, 5)


async def test_a_server_of_another_authority_is_refused_by_name(tls_etcd: Etcd, tmp_path: Path) -> None:
    foreign = pem_files(tmp_path / "foreign")
    files = load_files(foreign.ca, foreign.client_cert, foreign.client_key)
    async with EtcdClient(settings(tls_etcd, files)) as etcd:
        with pytest.raises(Unavailable, match=r"its certificate is not vouched for by tls\.ca"):
            await etcd.list(MINE, 5)


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    need_etcd()
    pem = pem_files(tmp_path / "pem", hosts=("etcd.example.org",))
    server = single(tmp_path, pem=pem)
    try:
        async with EtcdClient(settings(server, load_files(pem.ca, pem.client_cert, pem.client_key))) as etcd:
            with pytest.raises(Unavailable, match="does not name this host"):
                await etcd.list(MINE, 5)
    finally:
        server.stop()


async def test_https_at_a_plain_server_says_that_it_speaks_no_tls(shared_etcd: Etcd, tls_etcd: Etcd) -> None:
    assert tls_etcd.pem is not None
    endpoint = Endpoint.parse(shared_etcd.url.replace("http:", "https:"))
    async with EtcdClient(EtcdSettings((endpoint,), load_files(tls_etcd.pem.ca), call_s=2.0)) as etcd:
        with pytest.raises(Unavailable, match="if it speaks no TLS, write http://"):
            await etcd.list(MINE, 5)


async def test_http_at_a_tls_server_says_what_to_write(tls_etcd: Etcd) -> None:
    endpoint = Endpoint.parse(tls_etcd.url.replace("https:", "http:"))
    async with EtcdClient(EtcdSettings((endpoint,), call_s=2.0)) as etcd:
        with pytest.raises(Unavailable, match="if it speaks TLS, write https://"):
            await etcd.list(MINE, 5)


async def test_a_password_opens_what_its_role_allows(auth_etcd: Etcd) -> None:
    async with EtcdClient(settings(auth_etcd, None, "node", PASSWORD)) as etcd:
        lease = await etcd.grant(60)
        assert await etcd.create(MINE + b"a", b"1", lease) is None
        await etcd.keep_alive(lease)
        with pytest.raises(Forbidden, match="readwrite on the prefix"):
            await etcd.list(b"/elsewhere/", 5)
        with pytest.raises(Forbidden):
            async with aclosing(etcd.watch(b"/elsewhere/", 1)) as batches:
                await anext(batches)
        assert len((await etcd.list(MINE, 5)).pairs) == 1
        await etcd.revoke(lease)


async def test_a_wrong_password_and_none_are_told_apart(auth_etcd: Etcd) -> None:
    async with EtcdClient(settings(auth_etcd, None, "node", "wrong")) as etcd:
        with pytest.raises(Unauthenticated, match="mend username or password"):
            await etcd.list(MINE, 5)
    async with EtcdClient(settings(auth_etcd)) as etcd:
        with pytest.raises(Unauthenticated, match="set username and password"):
            await etcd.list(MINE, 5)


FORGOTTEN = (("hasleader", "true"), ("token", "made-up.1"))


async def test_a_watch_with_a_forgotten_login_is_begun_anew(auth_etcd: Etcd) -> None:
    key = (MINE + b"forgotten").decode()
    async with EtcdClient(settings(auth_etcd, None, "node", PASSWORD)) as etcd:
        start = (await etcd.list(MINE, 5)).revision + 1
        etcd._cluster._metadata = FORGOTTEN
        async with aclosing(etcd.watch(MINE, start)) as batches:
            auth_etcd.ctl("put", key, "1", user="root:root")
            async with asyncio.timeout(15):
                (change,) = await anext(batches)
        assert change.key == key.encode()


async def test_a_login_outlives_a_restart_of_etcd_or_is_made_anew(auth_etcd: Etcd) -> None:
    key = (MINE + b"restarted").decode()
    async with EtcdClient(settings(auth_etcd, None, "node", PASSWORD)) as etcd:
        start = (await etcd.list(MINE, 5)).revision + 1
        async with aclosing(etcd.watch(MINE, start)) as batches:
            waiting = asyncio.ensure_future(anext(batches))
            auth_etcd.kill()
            auth_etcd.start().ready()
            auth_etcd.ctl("put", key, "1", user="root:root")
            async with asyncio.timeout(15):
                (change,) = await waiting
        assert change.key == key.encode()
        assert (await etcd.list(MINE, 5)).pairs


async def test_a_call_with_a_forgotten_login_does_not_fail(auth_etcd: Etcd) -> None:
    async with EtcdClient(settings(auth_etcd, None, "node", PASSWORD)) as etcd:
        lease = await etcd.grant(60)
        etcd._cluster._metadata = FORGOTTEN
        await asyncio.gather(*(etcd.keep_alive(lease) for _ in range(8)), etcd.list(MINE, 5))
        await etcd.revoke(lease)


async def test_a_change_of_users_does_not_end_a_session(auth_etcd: Etcd) -> None:
    async with EtcdClient(settings(auth_etcd, None, "node", PASSWORD)) as etcd:
        await etcd.list(MINE, 5)
        auth_etcd.ctl("role", "add", "later", user="root:root")
        lease = await etcd.grant(60)
        assert await etcd.create(MINE + b"later", b"1", lease) is None
        await etcd.revoke(lease)


async def test_a_password_for_a_cluster_without_logins_does_no_harm(shared_etcd: Etcd) -> None:
    async with EtcdClient(settings(shared_etcd, None, "node", PASSWORD)) as etcd:
        assert (await etcd.list(MINE, 5)).revision > 0


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    pem = pem_files(tmp_path)
    files = load_files(pem.ca, pem.client_cert, pem.client_key)
    shown = repr(EtcdSettings((Endpoint.parse("https://h"),), files, "node", PASSWORD))
    assert PASSWORD not in shown
    assert "PRIVATE KEY" not in shown


def test_files_that_cannot_work_are_refused_by_name(tmp_path: Path) -> None:
    pem, other = pem_files(tmp_path / "a"), pem_files(tmp_path / "b")
    (tmp_path / "text").write_text("no PEM")
    with pytest.raises(Invalid, match="nowhere cannot be read"):
        load_files(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="text is not a PEM certificate"):
        load_files(tmp_path / "text")
    with pytest.raises(Invalid, match="is not the key of"):
        load_files(pem.ca, pem.client_cert, other.client_key)
    with pytest.raises(Invalid, match="text is not an unencrypted PEM private key"):
        load_files(pem.ca, pem.client_cert, tmp_path / "text")


@pytest.mark.parametrize(
    "url",
    ["", "h:2379", "ftp://h", "http://", "http://h/path", "http://u@h", "http://h:99999", "http://h?x=1", "http://h:0"],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match=r"is no endpoint of etcd|holds '@': a login is given as username"):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", "h:2379"),
        ("https://h:1/", "h:1"),
        ("http://[::1]:2", "[::1]:2"),
        ("https://10.0.0.1", "10.0.0.1:2379"),
    ],
)
def test_an_endpoint_is_scheme_host_and_port(url: str, target: str) -> None:
    assert Endpoint.parse(url).target == target


def test_https_needs_an_authority() -> None:
    with pytest.raises(Invalid, match="needs the CA"):
        EtcdSettings((Endpoint.parse("https://h"),))
    with pytest.raises(Invalid, match="name 1 to 16"):
        EtcdSettings(())
