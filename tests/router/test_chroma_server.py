"""A Chroma server behind a proxy that does TLS and asks for a token, as it is run where others reach it."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proto.errors import Unavailable
from router.chroma_server import ChromaServer, ServerAddress
from tests.router.shelves import ChromaProcess, digests, vectors
from tests.wire.etcd_server import Pem
from tests.wire.test_etcd_security import pem_files

TOKEN = "a-token-of-the-region"

# A client of Chroma's that a server refuses leaves its connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


class Proxy:
    """Ends TLS, lets requests with the token through to `port`, and answers 401 to others; one thread a connection."""

    def __init__(self, port: int, cert: Path, key: Path) -> None:
        self._to = port
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except ssl.SSLError:
                continue  # who does not trust the certificate hangs up
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = client.recv(65_536)
            if f"authorization: bearer {TOKEN}\r\n".encode() not in head.lower():
                client.sendall(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self._to)) as server:
                server.sendall(head)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def pem(tmp_path: Path) -> Pem:
    return pem_files(tmp_path / "tls")


@pytest.fixture
def proxy(chroma_server: ChromaProcess, pem: Pem) -> Iterator[Proxy]:
    made = Proxy(chroma_server.port, pem.cert, pem.key)
    yield made
    made.close()


def test_vectors_pass_with_a_token_and_the_authority_of_the_certificate(proxy: Proxy, pem: Pem, tmp_path: Path) -> None:
    store = ChromaServer(ServerAddress(proxy.url, TOKEN, ca=str(pem.ca)), f"m-{tmp_path.name}")
    store.open()
    store.put(digests(3), vectors(3))
    assert sorted(store.get(digests(4))) == digests(3)
    store.close()


def refusal(address: ServerAddress) -> str:
    """The words with which it is refused."""
    store = ChromaServer(address, "a-model")
    store.open()
    try:
        store.get(digests(1))
    except Unavailable as e:
        return e.message
    finally:
        store.close()
    return ""


def test_a_wrong_token_and_an_unknown_authority_are_said(proxy: Proxy, pem: Pem) -> None:
    refused = refusal(ServerAddress(proxy.url, "another-token", ca=str(pem.ca)))
    assert "401 Unauthorized" in refused
    assert "another-token" not in refused
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(ServerAddress(proxy.url, TOKEN))


def test_a_database_that_is_not_there_is_said(chroma_server: ChromaProcess) -> None:
    assert "nowhere" in refusal(ServerAddress(chroma_server.address.url, database="nowhere"))


def test_connections_that_come_and_go_leave_nothing_behind(chroma_server: ChromaProcess, tmp_path: Path) -> None:
    from chromadb.api.shared_system_client import SharedSystemClient

    before = set(SharedSystemClient._identifier_to_system)
    for database in ("default_database", "nowhere") * 2:
        address = ServerAddress(chroma_server.address.url, database=database)
        assert bool(refusal(address)) is (database == "nowhere")
    assert set(SharedSystemClient._identifier_to_system) <= before
