"""Whole nodes, configured to find each other by etcd alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from federation.ca import init_ca, issue
from node.app import App
from node.config import parse
from proto.names import NodeId
from tests.wire.etcd_server import Etcd, need_etcd, single

SAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "servers"
MESH = "mesh.test"
PASSWORD = "open sesame"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """It demands a login; the user `toolmesh` has the rights that docs/operations.md names, and no more."""
    need_etcd()
    server = single(tmp_path)
    server.ctl("user", "add", "root:root")
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("role", "add", "toolmesh")
    server.ctl("role", "grant-permission", "toolmesh", "--prefix=true", "readwrite", f"/team/{MESH}/nodes/")
    server.ctl("user", "add", f"toolmesh:{PASSWORD}")
    server.ctl("user", "grant-role", "toolmesh", "toolmesh")
    server.ctl("auth", "enable")
    yield server
    server.stop()


async def until(app: App, holds: Callable[[], bool]) -> None:
    changed = asyncio.Event()
    app.catalog.listen(lambda *_: changed.set())
    async with asyncio.timeout(60):
        while not holds():
            changed.clear()
            await changed.wait()


async def test_two_nodes_with_one_etcd_in_their_configuration_share_their_servers(etcd: Etcd, tmp_path: Path) -> None:
    init_ca(tmp_path / "ca", MESH)

    def node(region: str) -> App:
        files = issue(tmp_path / "ca", NodeId.of(MESH, region, f"{region}-1"), tmp_path / region)
        settings: dict[str, Any] = {
            "node": {"name": f"{region}-1", "region": region, "mesh": MESH, "data_dir": f"data-{region}"},
            "http": {"listen": "127.0.0.1:0"},
            "search": {"embedder": "none"},
            "federation": {
                "listen": "127.0.0.1:0",
                "tls": {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)},
                "mdns": {"enabled": False},
                "etcd": {"endpoints": [etcd.url], "username": "toolmesh", "password": PASSWORD, "prefix": "/team"},
            },
            "servers": {f"text-{region}": {"command": [sys.executable, str(SAMPLES / "text.py")]}},
        }
        return App(parse(settings, tmp_path))

    def known(app: App, region: str) -> bool:
        return app.catalog.find(f"{region}-1", f"text-{region}") is not None

    async with AsyncExitStack() as running:
        apps = {region: node(region) for region in ("eu", "us")}
        for app in apps.values():
            running.push_async_callback(app.stop)
            await app.start()
        await until(apps["eu"], lambda: known(apps["eu"], "us"))
        await until(apps["us"], lambda: known(apps["us"], "eu"))
        listed = etcd.ctl("get", "--prefix", "/team/", "--keys-only", user="root:root").split()
        assert [key.rpartition("/")[2] for key in listed] == ["eu-1", "us-1"]
    assert not etcd.ctl("get", "--prefix", "/team/", "--keys-only", user="root:root").split()
