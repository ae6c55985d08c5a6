from __future__ import annotations

import grpc
import pytest

from federation.etcd.errors import meaning

CLOSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379: Socket closed"


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("http://etcd:2379", "it ends the connection; if it speaks TLS, write https://"),
        ("https://etcd:2379", "it ends the connection"),
    ],
)
def test_a_closed_connection_points_at_tls_only_where_none_is_spoken(at: str, end: str) -> None:
    assert meaning(grpc.StatusCode.UNAVAILABLE, CLOSED, at).message == f"{at} does not serve: {end}"
