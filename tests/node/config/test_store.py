from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from node.config import NodeConfig
from node.vectors import NodeVectors
from router.memory import HashingEmbedder

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]


def test_vectors_lie_in_the_data_directory_unless_a_server_is_named(load_text: Load, tmp_path: Path) -> None:
    config = load_text("node: {data_dir: here}")
    assert repr(NodeVectors(config, HashingEmbedder()).kept).startswith(f"KeptVectors(ChromaDirectory({tmp_path}/here/")
    config = load_text("search: {store: {url: 'http://localhost:8000/'}}")
    assert repr(NodeVectors(config, HashingEmbedder()).kept).startswith(
        "KeptVectors(ChromaServer(http://localhost:8000,"
    )


def test_a_token_is_a_reference_and_is_never_shown(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("chroma-token\n")
    config = load_text("search: {store: {url: 'https://chroma.test', token: {file: token}}}")
    assert config.search.store.token is not None
    assert config.search.store.token.get_secret_value() == "chroma-token"
    shelf = NodeVectors(config, HashingEmbedder()).kept._shelf
    assert "chroma-token" not in repr(config.search) + repr(shelf) + repr(shelf.__dict__)


@pytest.mark.parametrize(
    ("store", "where", "problem"),
    [
        ("url: 'chroma:8000'", "store.url", "is not the URL of a Chroma server"),
        ("url: 'http://127.0.0.1:0'", "store.url", "is not the URL of a Chroma server"),
        ("url: 'https://u:p@chroma.test'", "store.url", "is not the URL of a Chroma server"),
        ("url: 'https://chroma.test/api/v2'", "store.url", "is not the URL of a Chroma server"),
        ("url: 'http://chroma.test:8000'", "store.url", "set search.store.insecure: true"),
        ("url: 'http://127.0.0.1:8000', ca: ca.pem", "store.ca", "the url is not https"),
        ("token: {env: NO_SUCH_VARIABLE}", "store.token", "NO_SUCH_VARIABLE is not set"),
        ("tenant: mine", "store.url", "is missing, so tenant would have no effect"),
        ("url: 'http://127.0.0.1', database: ''", "store.database", "must not be empty"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(refused: Refused, store: str, where: str, problem: str) -> None:
    (line,) = refused(f"search: {{store: {{{store}}}}}")
    assert f"search.{where}" in line
    assert problem in line


def test_http_beyond_loopback_is_taken_where_it_is_said_to_be_safe(load_text: Load) -> None:
    config = load_text("search: {store: {url: 'http://10.0.0.5:8000', insecure: true}}")
    assert config.search.store.url == "http://10.0.0.5:8000"


@pytest.mark.parametrize(("share", "shares"), [("true", True), ("false", False)])
def test_vectors_are_shared_with_peers_unless_the_operator_says_no(load_text: Load, share: str, shares: bool) -> None:
    mesh = "node: {name: eu-1, region: eu}\nfederation: {tls: {ca: ca.pem, cert: n.pem, key: n-key.pem}}\n"
    vectors = NodeVectors(load_text(f"{mesh}search: {{share_vectors: {share}}}"), HashingEmbedder())
    assert (vectors.shared is not None) is shares
    assert NodeVectors(load_text(""), HashingEmbedder()).shared is None
