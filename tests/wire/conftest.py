from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.etcd_server import Etcd, need_etcd, single
from tests.wire.forwarding import certificates as certificates
from tests.wire.forwarding import pair as pair
from tests.wire.lines import Lines, listening
from tests.wire.meshes import mesh as mesh


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One server for tests that leave it running; each uses keys of its own."""
    need_etcd()
    server = single(tmp_path_factory.mktemp("etcd"))
    yield server
    server.stop()


@pytest.fixture
def lines() -> Iterator[Lines]:
    with listening() as lines:
        yield lines
