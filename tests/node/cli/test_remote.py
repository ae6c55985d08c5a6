from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mcp_types
import pytest

from federation.ca import init_ca, issue
from node.verbs import remote
from proto.names import NodeId
from router.arguments import Search

VERBS = (
    ["status"],
    ["peers"],
    ["peers", "ap-1"],
    ["explain", "a/b"],
    ["drain"],
    ["drain", "--undo"],
    ["leave", "--yes"],
    ["search", "x"],
    ["call", "a", "b"],
)
"""Each that asks a running node."""


def test_the_words_of_the_protocol_are_those_of_its_vocabulary() -> None:
    assert f"{remote._META}protocolVersion" == mcp_types.PROTOCOL_VERSION_META_KEY
    assert f"{remote._META}clientInfo" == mcp_types.CLIENT_INFO_META_KEY
    assert f"{remote._META}clientCapabilities" == mcp_types.CLIENT_CAPABILITIES_META_KEY
    assert remote.REVISION in mcp_types.version.MODERN_PROTOCOL_VERSIONS


def test_status_shows_node_peers_servers_and_search(run: Any, node: Any) -> None:
    ran = run("status", **node.environment)
    assert (ran.status, ran.err) == (0, "")
    for word in ("eu-1", "suspect", "stream broke", "1 min", "0.5 ms", "weather", "down", "lexical", "no weights"):
        assert word in ran.out
    assert "\x1b" not in ran.out


def test_json_is_what_the_node_said(run: Any, node: Any) -> None:
    ran = run("status", "--json", **node.environment)
    assert json.loads(ran.out) == node.twin.status()


def test_status_shows_refusals_and_alarms_with_what_was_said(run: Any, node: Any) -> None:
    out = run("status", **node.environment).out
    for words in ("10.0.0.9:7401", "certificate", "a foreign CA\\x1b[2J", "two processes speak as ap-1: stop one"):
        assert words in out


def test_peers_are_a_line_each_with_what_is_not_as_it_should_be(run: Any, node: Any) -> None:
    ran = run("peers", **node.environment)
    assert ran.status == 0
    (line,) = (line for line in ran.out.splitlines() if line.startswith("ap-1"))
    for words in ("suspect", "1 min", "0.5 ms", "1.2 kB/s, 0.5 calls/s", "stream broke; 2 records refused here"):
        assert words in line
    assert json.loads(run("peers", "--json", **node.environment).out)["peers"] == node.twin.peers()


def test_one_peer_is_told_in_full(run: Any, node: Any) -> None:
    out = run("peers", "ap-1", **node.environment).out
    for words in (
        "spiffe://m/region/ap/node/ap-1", "not known while it is not heard", "protocol 1, features refuse",
        "until 2099-01-01", "roles authority", "weather/bad", "its body has 9 MiB", "and 1 more", "not compared yet",
        "1.2 kB/s in", "a foreign CA\\x1b[2J", "two processes speak as ap-1",
    ):  # fmt: skip
        assert words in out
    assert out.index("00:01  suspect") < out.index("00:00  alive")


def test_a_peer_that_is_not_there_names_those_that_are(run: Any, node: Any) -> None:
    ran = run("peers", "a/../b", **node.environment)
    assert (ran.status, ran.err) == (2, "toolmesh: no peer of this node is named 'a/../b'; there are: ap-1\n")


def test_explain_gives_the_verdict_then_each_finding_with_its_mend(run: Any, node: Any) -> None:
    ran = run("explain", "weather/forecast", "--as", "alice", **node.environment)
    assert ran.status == 0
    assert node.twin.asked == [("", "weather/forecast", "alice", "op")]
    lines = ran.out.splitlines()
    assert lines[0] == "visible to op; a call now goes to ap-1 (another region)"
    for line in (
        "✓ name        tool 'forecast' of 'weather', a server of ap-1",
        "✗ owner       us-1 (us) is down\\x1b[2J",
        "              → start it again",
        "· search      search finds it by its words only",
    ):
        assert line in lines
    (chosen,) = (line for line in lines if line.startswith("weather--ap-1"))
    assert chosen.endswith("goes here")
    assert "it is not up" in ran.out


def test_explain_of_what_cannot_be_called_gives_status_1(run: Any, node: Any) -> None:
    node.twin.confidence = "none"
    assert run("explain", "weather", "forecast", **node.environment).status == 1
    assert node.twin.asked == [("weather", "forecast", "", "op")]
    ran = run("explain", "weather", "forecast", "--json", **node.environment)
    assert ran.status == 1
    assert json.loads(ran.out)["callable"] is False


def test_search_shows_where_a_tool_lives(run: Any, node: Any) -> None:
    ran = run("search", "what will the sky be like", "-k", "3", **node.environment)
    assert ran.status == 0
    assert node.twin.asked == [("what will the sky be like", 3, "op")]
    for word in ("weather", "forecast(city: string)", "0.81", "ap", "What the sky will be like."):
        assert word in ran.out


def test_search_is_narrowed_and_says_why_a_hit_ranks_where_it_does(run: Any, node: Any) -> None:
    options = ["--limit", "2", "--server", "weather", "--region", "ap", "--kind", "tool", "--explain"]
    ran = run("search", "sky", *options, **node.environment)
    assert ran.status == 0
    assert node.twin.searched == (Search("sky", server="weather", region="ap"), True)
    assert "+2.70 = meaning +2.25 (place 1), words +0.50 (place 3), preference -0.05" in ran.out
    told = json.loads(run("search", "sky", "--json", "--explain", **node.environment).out)
    assert told["hits"][0]["why"]["meaning_rank"] == 1


def test_search_says_when_nothing_fits(run: Any, node: Any) -> None:
    node.twin.confidence = "none"
    assert "nothing seems to fit" in run("search", "x", **node.environment).out
    assert run("search", "nothing", **node.environment).out.startswith("nothing found; ")


@pytest.mark.parametrize("server", ["weather", "slow"])
def test_call_runs_a_tool_by_the_2026_protocol_and_prints_its_text(run: Any, node: Any, server: str) -> None:
    ran = run("call", server, "forecast", '{"city": "Oslo"}', **node.environment)
    assert (ran.status, ran.out, ran.err) == (0, "12 °C\n", "")
    arguments = {"mcp_server_name": server, "mcp_tool_name": "forecast", "params": {"city": "Oslo"}}
    assert node.twin.asked == [(arguments, "op", "2026-07-28")]


def test_a_result_without_text_shows_its_structure_and_names_other_blocks(run: Any, node: Any) -> None:
    node.twin.result = {"content": [], "structuredContent": {"c": 12}}
    assert run("call", "a", "b", **node.environment).out == '{"c":12}\n'
    node.twin.result = {"content": [{"type": "image", "mimeType": "image/png", "data": "eA=="}]}
    assert run("call", "a", "b", **node.environment).out == "[image image/png]\n"


def test_a_failing_tool_gives_status_1_and_its_words_on_stderr(run: Any, node: Any) -> None:
    node.twin.result = {"content": [{"type": "text", "text": "no such city"}], "isError": True}
    ran = run("call", "weather", "forecast", **node.environment)
    assert (ran.status, ran.out, ran.err) == (1, "", "no such city\n")
    ran = run("call", "weather", "forecast", "{}", "--json", **node.environment)
    assert ran.status == 1
    assert json.loads(ran.out)["isError"] is True


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("twofold", "'twofold' is ambiguous: use twofold--eu-1 or twofold--ap-1"),
        ("foreign", "the upstream's own (JSON-RPC error -32050)"),
    ],
)
def test_an_error_is_one_line_on_stderr(run: Any, node: Any, server: str, words: str) -> None:
    ran = run("call", server, "forecast", **node.environment)
    assert (ran.status, ran.out, ran.err) == (1, "", f"toolmesh: {words}\n")


def test_an_unknown_server_fails(run: Any, node: Any) -> None:
    ran = run("call", "nowhere", "forecast", **node.environment)
    assert ran.status == 1
    assert ran.err.startswith("toolmesh: ")


@pytest.mark.parametrize("arguments", ["[1]", "{", "NaN", '"x"'])
def test_arguments_that_are_no_object_are_a_usage_error(run: Any, node: Any, arguments: str) -> None:
    ran = run("call", "weather", "forecast", arguments, **node.environment)
    assert ran.status == 2
    assert node.twin.asked == []


def test_a_refused_connection_says_how_to_start_a_node(run: Any) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        for verb in VERBS:
            ran = run(*verb, "--url", f"http://127.0.0.1:{port}")
            assert ran.status == 1
            assert ran.err == (
                f"toolmesh: no node answers at http://127.0.0.1:{port} (connection refused); "
                "start one with 'toolmesh up -c FILE', or name another with --url or TOOLMESH_URL\n"
            )


def test_a_key_is_asked_for_where_one_is_needed(run: Any, node: Any, tmp_path: Path) -> None:
    ran = run("status", "--url", node.url)
    assert ran.status == 1
    assert "callers without a key; give one with --key-file or TOOLMESH_KEY" in ran.err
    wrong = tmp_path / "key"
    wrong.write_text("wrong-key\n")
    for verb in VERBS:
        ran = run(*verb, "--url", node.url, "--key-file", str(wrong))
        assert ran.status == 1
        assert "does not accept this key" in ran.err
        assert "wrong-key" not in ran.err
    wrong.write_text(f"{node.key}\n")
    assert run("status", "--url", node.url + "/", "--key-file", str(wrong)).status == 0


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--url", "127.0.0.1:7400"], "--url"),
        (["--url", "http://"], "--url"),
        (["--url", "http://127.0.0.1:99999"], "--url"),
        (["--key-file", "/nonexistent/key"], "--key-file"),
        (["--key-file", os.devnull], "is empty"),
    ],
)
def test_a_bad_option_is_named(run: Any, args: list[str], word: str) -> None:
    ran = run("status", *args)
    assert ran.status == 2
    assert word in ran.err


def test_a_node_without_accounts_of_callers_is_told_from_one_where_nobody_agreed(run: Any, node: Any) -> None:
    ran = run("grants", "list", **node.environment)
    assert (ran.status, ran.out) == (1, "")
    assert "no server of this node acts on accounts of its callers" in ran.err


@pytest.mark.parametrize("verb", [["explain"], ["explain", "text"], ["peers"], ["search"]])
def test_what_no_request_can_carry_is_not_sent(run: Any, node: Any, verb: list[str]) -> None:
    ran = run(*verb, "x" * 33_000, **node.environment)
    assert (ran.status, ran.err) == (
        2,
        "toolmesh: what is asked for is far longer than any name or question; shorten it\n",
    )


def test_a_key_that_no_header_can_carry_is_refused_unseen(run: Any) -> None:
    ran = run("status", TOOLMESH_KEY="a\nb-secret")
    assert ran.status == 2
    assert "secret" not in ran.err


@pytest.fixture
def raw_server() -> Iterator[Any]:
    """Answers every connection with fixed bytes, or never."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answer: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            held = []
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                held.append(connection)
                if answer is not None:
                    connection.recv(65_536)
                    connection.sendall(answer)
                    connection.close()
            for connection in held:
                connection.close()

        thread = threading.Thread(target=loop)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(10)


def http(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not answer like a node"),
        (http("200 OK", "text/html", b"<html>"), "is not that of a node: its body: not valid JSON"),
        (http("404 Not Found", "text/html", b"<html>"), "answered HTTP status 404, not like a node"),
        (http("302 Found", "text/html", b""), "answered HTTP status 302, not like a node"),
        (
            http("503 X", "application/problem+json", b'{"kind":"unavailable","detail":"draining"}'),
            "toolmesh: draining",
        ),
        (b"", "hung up without an answer; is https:// meant?"),
    ],
)
def test_what_is_no_node_is_told(run: Any, raw_server: Any, answer: bytes, words: str) -> None:
    ran = run("status", "--url", raw_server(answer))
    assert ran.status == 1
    assert words in ran.err


def test_a_stream_that_ends_before_the_result_says_so(run: Any, raw_server: Any) -> None:
    answer = http("200 OK", "text/event-stream", b': hello\n\ndata: {"method": "notifications/progress"}\n\n')
    ran = run("call", "a", "b", "--url", raw_server(answer))
    assert ran.status == 1
    assert "whether the tool ran is not known" in ran.err


def test_tls_where_there_is_none_is_told(run: Any, raw_server: Any) -> None:
    url = raw_server(http("400 Bad Request", "text/plain", b"")).replace("http:", "https:")
    ran = run("status", "--url", url)
    assert ran.status == 1
    assert "cannot be reached by TLS (WRONG_VERSION_NUMBER); is http:// meant?" in ran.err


def test_an_unknown_authority_is_told_with_the_mend(run: Any, tmp_path: Path) -> None:
    init_ca(tmp_path / "ca", "test.mesh")
    files = issue(tmp_path / "ca", NodeId.of("test.mesh", "eu", "eu-1"), tmp_path, hosts=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    refusals: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except ssl.SSLError as e:
                refusals.append(str(e))
            finally:
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        ran = run("status", "--url", f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(10)
    assert ran.status == 1
    assert "is not trusted" in ran.err
    assert "SSL_CERT_FILE" in ran.err
    assert refusals


def test_a_node_that_never_answers_is_not_waited_for_forever(run: Any, raw_server: Any) -> None:
    ran = run("status", "--timeout-s", "0.2", "--url", raw_server(None))
    assert ran.status == 1
    assert "gave no answer within 0.2 s; --timeout-s waits longer" in ran.err
