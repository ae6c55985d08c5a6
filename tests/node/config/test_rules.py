from __future__ import annotations

from collections.abc import Callable

import pytest

from node.config import NodeConfig

Load = Callable[[str], NodeConfig]
Refused = Callable[[str], list[str]]

TLS = "tls: {ca: ca.pem, cert: n.pem, key: n-key.pem}"
NODE = "node: {name: eu-1, region: eu}\n"
KEY = "auth: {keys: [{name: a, sha256: " + "ab" * 32 + "}]}\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_needs_neither_tls_nor_keys(load_text: Load, host: str) -> None:
    assert load_text(f"http: {{listen: '{host}:7400'}}\n").http.port == 7400


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "[::]", "gw.example.org"])
def test_beyond_loopback_tls_and_keys_are_both_needed(refused: Refused, load_text: Load, host: str) -> None:
    (line,) = refused(f"http: {{listen: '{host}:7400'}}\n")
    assert line.startswith("node.yaml:1: http.listen: ")
    assert "http.tls and auth.keys are missing: add both" in line
    assert "insecure_beyond_loopback" in line
    with_tls = f"http: {{listen: '{host}:7400', tls: {{cert: c, key: k}}}}\n"
    assert "but auth.keys is missing" in refused(with_tls)[0]
    assert "but http.tls is missing" in refused(f"http: {{listen: '{host}:7400'}}\n{KEY}")[0]
    assert load_text(with_tls + KEY).http.tls
    assert load_text(f"http: {{listen: '{host}:7400', insecure_beyond_loopback: true}}\n").http


def test_federation_is_on_exactly_when_it_has_tls(load_text: Load) -> None:
    assert load_text(f"{NODE}federation: {{{TLS}}}\n").federation.enabled
    assert not load_text(NODE).federation.enabled


def test_federation_settings_without_tls_are_refused(refused: Refused) -> None:
    (line,) = refused("federation: {static: ['h:1'], listen: '127.0.0.1:1'}\n")
    assert "federation.tls: is missing, so listen, static would have no effect" in line


def test_a_federated_node_must_say_who_it_is(refused: Refused) -> None:
    lines = refused(f"federation: {{{TLS}}}\n")
    assert [line.split(": ")[1] for line in lines] == ["node.name", "node.region"]


@pytest.mark.parametrize(
    ("keys", "where"),
    [("listen: '0.0.0.0:1'", "federation.listen"), ("advertise: '[::]:1'", "federation.advertise")],
)
def test_an_address_that_peers_cannot_dial_is_not_advertised(refused: Refused, keys: str, where: str) -> None:
    (line,) = refused(f"{NODE}federation: {{{TLS}, {keys}}}\n")
    assert f"{where}: " in line
    assert "cannot be dialled by others" in line


def test_listening_everywhere_is_fine_with_an_address_to_advertise(load_text: Load) -> None:
    config = load_text(f"{NODE}federation: {{{TLS}, listen: '0.0.0.0:1', advertise: 'eu-1.example.org:7401'}}\n")
    assert config.federation.advertised == "eu-1.example.org:7401"


def test_two_listeners_may_not_share_an_address(refused: Refused) -> None:
    (line,) = refused(f"{NODE}federation: {{{TLS}, listen: '127.0.0.1:7400'}}\n")
    assert "federation.listen: '127.0.0.1:7400' is http.listen too" in line


def test_a_server_stands_in_one_section_only(refused: Refused) -> None:
    (line,) = refused("servers: {a: {command: [x]}}\ncatalogue:\n  a: {command: [x]}\n")
    assert line == "node.yaml:3: catalogue.a: is in servers too; keep one of them"


def test_keys_differ_in_name_and_value(refused: Refused) -> None:
    entry = "{name: a, sha256: " + "ab" * 32 + "}"
    lines = refused(f"auth: {{keys: [{entry}, {entry}]}}\n")
    assert any("auth.keys[1].name: 'a' is used by an earlier key" in line for line in lines)
    assert any("auth.keys[1]: is the same key as that of 'a'" in line for line in lines)


def test_a_limit_on_peers_needs_keys(refused: Refused, load_text: Load) -> None:
    assert "needs auth.keys" in refused("auth: {peers: {servers: [x]}}\n")[0]
    peers = KEY.replace("}]}", "}], peers: {servers: [x]}}")
    assert load_text(peers).auth.peers.servers == ("x",)


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("{}", "neither is given"),
        ("{command: [a], url: 'http://x/'}", "both are given"),
        ("{url: 'http://x/', env: {A: b}}", "'env' is for a 'command'"),
        ("{command: [a], headers: {A: b}}", "'headers' are for a 'url'"),
        ("{url: 'http://user:pw@x/'}", "use headers instead"),
        ("{url: 'http://x:99999/'}", "is not an http"),
        ("{url: 'http://x:0/'}", "is not an http"),
        ("{command: ['']}", "name the program"),
        ("{url: 'http://x/', headers: {'a b': c}}", "is not a header name"),
        ('{url: "http://x/", headers: {a: "c\\r\\nd"}}', "headers are one line"),
        ("{command: [a], concurrency: 0}", "greater than or equal to 1"),
        ("{command: [a], call_timeout_s: .inf}", "finite"),
        ("{command: [a], service: A_B}", "server name 'A_B' is not valid"),
    ],
)
def test_a_server_that_could_not_work_is_refused(refused: Refused, server: str, problem: str) -> None:
    (line,) = refused(f"servers: {{s: {server}}}\n")
    assert problem in line
    assert "servers.s" in line


@pytest.mark.parametrize(
    "origin", ["chat.example.org", "https://x/path", "ftp://x", "*", "https://a:b@x", "https://x:0"]
)
def test_an_origin_is_scheme_host_and_port(refused: Refused, origin: str) -> None:
    (line,) = refused(f"http: {{allowed_origins: ['{origin}']}}\n")
    assert "is not an origin" in line


def test_a_server_becomes_what_the_upstreams_side_starts(load_text: Load, tmp_path: object) -> None:
    import sys

    text = "servers: {s: {command: ['{python}', '-m', x], service: pool, stateless: true, concurrency: 3}}\n"
    spec = load_text(text).servers["s"].to_spec("s")
    assert spec.name == "s"
    assert spec.command == (sys.executable, "-m", "x")
    assert spec.cwd == str(tmp_path)
    assert (spec.service, spec.stateless, spec.concurrency, spec.call_timeout_s) == ("pool", True, 3, 300)
    remote = load_text("servers: {s: {url: 'https://x.example.org/mcp'}}\n").servers["s"].to_spec("s")
    assert (remote.url, remote.cwd, remote.command) == ("https://x.example.org/mcp", None, ())


def test_a_tool_that_only_reads_needs_somebody_to_believe(refused: Refused, load_text: Load) -> None:
    (line,) = refused("search: {read_only_tool: true}\n")
    assert line.startswith("node.yaml:1: search.believe_hints: names no server, so use_read_only_tool would refuse")
    believing = load_text("search: {read_only_tool: true, believe_hints: [wiki, '*--eu-1']}\n").search
    assert believing.believe_hints == ("wiki", "*--eu-1")
    (line,) = refused("search: {read_only_tool: true, believe_hints: ['']}\n")
    assert "search.believe_hints" in line


def test_other_names_for_the_tools_are_known_ones_and_named_once(refused: Refused, load_text: Load) -> None:
    assert load_text("search: {aliases: [toolhive, docker]}\n").search.aliases == ("toolhive", "docker")
    (line,) = refused("search: {aliases: [docker, docker]}\n")
    assert line.startswith("node.yaml:1: search.aliases: names the same twice")
    (line,) = refused("search: {aliases: [podman]}\n")
    assert "'docker' or 'toolhive'" in line
