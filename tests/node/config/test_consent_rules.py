"""What a configuration must say before people can be sent to this node's pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from node.config import NodeConfig

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]

SERVER = "servers: {files: {url: 'https://files.example/mcp', auth: {kind: authorization_code}}}\n"
KEY = "auth: {keys: [{name: a, sha256: " + "ab" * 32 + "}]}\nsecrets: {key: {env: STORE_KEY}}\n"
BEYOND = "listen: '0.0.0.0:7400', tls: {cert: c, key: k}"


@pytest.fixture(autouse=True)
def _store_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import os

    monkeypatch.setenv("STORE_KEY", base64.b64encode(os.urandom(32)).decode())


def test_on_this_machine_the_nodes_own_address_will_do(load_text: Load) -> None:
    assert load_text(SERVER + KEY).servers["files"].auth is not None


def test_beyond_it_the_address_that_browsers_reach_must_be_given(refused: Refused, load_text: Load) -> None:
    (line,) = refused(f"http: {{{BEYOND}}}\n{SERVER}{KEY}")
    assert "http.public_url: is missing" in line
    assert "'files'" in line
    assert load_text(f"http: {{{BEYOND}, public_url: 'https://n.example'}}\n{SERVER}{KEY}").http.public_url


def test_the_pages_have_a_host_name_of_their_own(refused: Refused) -> None:
    (line,) = refused(f"http: {{{BEYOND}, public_url: 'https://n.example/toolmesh'}}\n{SERVER}{KEY}")
    assert "http.public_url: has a path" in line


def test_without_such_a_server_nothing_of_it_is_asked(load_text: Load) -> None:
    assert load_text(f"http: {{{BEYOND}}}\n{KEY}")
