"""Every reader of what outsiders write says what it found, or no in a word of ours, soon: and nothing else."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from federation.ca import init_ca, issue
from federation.credentials import parse_chain, vouch
from federation.discovery import entries, mdns
from federation.tls import split_address
from federation.vouching import check_principal
from node import sealing, task_ids
from node.assertions import Assertions, Signer
from node.audit.verifying import Line, verify
from node.bridge.states import States
from node.credentials import challenge, metadata
from node.doors import forwarded, names, paths
from node.endpoints import paging
from node.governance import bodies
from node.guard import policy
from node.identity import claims, jose, jwks
from node.ingress import envelope, incoming, ladder
from node.outbound.addresses import forbidden_reason
from node.outbound.outbound import Outbound
from node.settings.issuers import IssuerConfig
from node.upstreams.lines import LineSplitter
from node.upstreams.sse import SseParser
from proto import codec, jsons, sync_codec
from proto import mesh_pb2 as pb
from proto.calls import Call
from proto.errors import Unauthenticated
from proto.names import NodeId, listed_tool, split_member, split_qualified
from proto.records import GOVERNANCE, Kind, Principal, Record
from router import snapshot
from tests.fuzz.hostile import BYTES, FUZZ, JSON, TEXT, WORDS, broken, document, like, survives

# ---- texts -------------------------------------------------------------------------------------------

SEALER = sealing.Sealer.alone()
SEALED = SEALER.seal("state", {"n": 1}, 60.0)
STATES = States("eu-1", SEALER)
CURSOR = paging.cursor("tools/list", "/mcp", ("files", "read"))
TOKEN = (
    ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "ES256", "kid": "1", "typ": "at+jwt"}, {"iss": "https://id.example", "sub": "ann"})
    )
    + ".c2lnbmF0dXJl"
)
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("::1/128")]
OUTBOUND = Outbound()
CEDAR = 'permit (principal in Group::"staff", action == Action::"call", resource) when { resource.region == "eu" };'

READERS_OF_TEXT: dict[str, tuple[Callable[[str], Any], st.SearchStrategy[str]]] = {
    "Accept": (incoming.accepted, like("application/json, text/event-stream;q=0.1", "*/*;q=0")),
    "Accept, which first": (incoming.prefers_stream, like("text/event-stream, application/json;q=0.9")),
    "Host": (names.host_in, like("127.0.0.1:7300", "[::1]:80", "a.example")),
    "Origin": (lambda t: names.Names.of([], []).origin(t, "127.0.0.1"), like("http://localhost:6274", "null")),
    "a path": (paths.is_canonical, like("/mcp/files", "/api/v1/%E2%82%AC", "/a//b;c")),
    "X-Forwarded-For": (
        lambda t: forwarded.client_address("10.0.0.1", [t], [], TRUSTED), like("203.0.113.7, 10.0.0.2", "[::1]:80")
    ),
    "Forwarded": (
        lambda t: forwarded.client_address("10.0.0.1", [], [t], TRUSTED),
        like('for=203.0.113.7;by=x, for="[2001:db8::1]:4711"', "for=_hidden"),
    ),
    "traceparent": (
        lambda t: incoming.trace_of({"traceparent": t, "tracestate": t}, {}),
        like("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ),
    "WWW-Authenticate of an upstream": (
        challenge.parse_challenge,
        like('Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x/y"', 'Basic realm="\\""'),
    ),
    "a JWT": (jose.parse, like(TOKEN)),
    "what may be a JWT": (jose.looks_signed, like(TOKEN)),
    "requestState": (lambda t: SEALER.open("state", t), like(SEALED)),
    "where a requestState goes": (STATES.place, like(SEALED)),
    "a cursor": (lambda t: paging.position({"cursor": t}, "tools/list", "/mcp", 2), like(CURSOR)),
    "a node id": (NodeId.parse, like("spiffe://mesh.test/region/eu/node/eu-1")),
    "a server's name": (split_qualified, like("files--eu-1")),
    "a record's id": (split_member, like("files/read")),
    "a listed name": (lambda t: listed_tool("files", t), WORDS),
    "an advertised address": (split_address, like("10.0.0.7:7400", "[::1]:7400")),
    "a URL that others chose": (
        OUTBOUND.check_url, like("https://a.example:8443/x?y#z", "https://[64:ff9b::1]/", "https://0x7f.1/")
    ),
    "an IP address": (forbidden_reason, like("10.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0")),
    "a Cedar policy": (lambda t: policy.check_policy("p", t), like(CEDAR, "forbid (principal, action, resource);")),
    "JSON": (jsons.loads, like('{"a": [1, 2.5e3, "\\ud83d\\ude00", null], "b": {"c": 12345678901234567890}}')),
    "strict JSON": (lambda t: jose.strict_object(t.encode("utf-8", "replace"), "it"), like('{"a": {"b": [1]}}')),
    "an issuer": (
        lambda t: metadata._is_safe(t) and metadata.server_metadata_urls(t), like("https://id.example/tenant/")),
    "a server's address": (
        lambda t: metadata._is_safe(t) and metadata.resource_metadata_urls(t),
        like("https://api.example:8443/mcp?x")),
    "a resource and its server": (
        lambda t: metadata.covers(t, "https://a.example/mcp"), like("https://a.example/mcp", "https://a.example")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS_OF_TEXT)
def test_of_text(name: str) -> None:
    read, near = READERS_OF_TEXT[name]

    @FUZZ
    @given(near | WORDS)
    def run(text: str) -> None:
        survives(lambda: read(text))

    run()


# ---- bytes -------------------------------------------------------------------------------------------


def sse(data: bytes) -> int:
    """The same events whatever the cuts; nothing beyond the bound is kept."""
    parser, found = SseParser(512), 0
    for at in range(0, len(data), 7):
        found += len(parser.feed(data[at : at + 7]))
        assert len(parser._buffer) <= 512 + 7
    return found


def lines(data: bytes) -> None:
    splitter = LineSplitter(64)
    for at in range(0, len(data), 5):
        splitter.feed(data[at : at + 5])
        assert splitter._held <= 64


OPEN = pb.Open(
    server="files", method="tools/call", params=b'{"name":"read"}', via=["eu-1"], budget_ms=1000,
    principal=pb.Principal(subject="ann", issuer="https://id.example", kind="user", groups=["a"], actors=["b"]),
    trace={"traceparent": "x"}, assertion=b"a.b.c",
)  # fmt: skip
UP = pb.CallUp(call_id="1", open=OPEN).SerializeToString()
DOWN = pb.CallDown(call_id="1", result=pb.Result(answer=b'{"result":{}}')).SerializeToString()
RECORD = Record.of(Kind.TOOL, "files/read", {"name": "read", "inputSchema": {"type": "object"}})
HELLO = pb.SyncUp(
    hello=pb.Hello(mesh="m", protocol_min=1, protocol_max=1, features=["refuse"], known_seq=3)
).SerializeToString()
DELTA = pb.SyncDown(
    delta=pb.Delta(epoch=1, from_seq=1, to_seq=2, puts=[codec.record_to_wire(RECORD)])
).SerializeToString()


def parsed(kind: Any, read: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    def reader(data: bytes) -> Any:
        try:
            message = kind.FromString(data)
        except DecodeError:
            return None  # it ends the stream before anything of ours has seen it
        return read(message)

    return reader


def call_up(message: pb.CallUp) -> None:
    _, frame = codec.call_up_from_wire(message)
    if hasattr(frame, "call"):
        check_principal(frame.call.principal)


def records(message: pb.SyncDown) -> None:
    for put in message.delta.puts:
        codec.record_from_wire(put).verify()


AUDITED = b'{"v":1,"seq":1,"prev":"' + b"0" * 64 + b'","kind":"call","at_ms":1}\n'

READERS_OF_BYTES: dict[str, tuple[Callable[[bytes], Any], st.SearchStrategy[bytes]]] = {
    "events of an upstream": (sse, broken(b"id: 1\r\nevent: message\ndata: {}\n\nretry: 5\n\n", b":\n\n" * 9)),
    "lines of an upstream": (lines, broken(b'{"jsonrpc":"2.0","id":1,"result":{}}\r\n\n')),
    "CallUp": (parsed(pb.CallUp, call_up), broken(UP)),
    "CallDown": (parsed(pb.CallDown, codec.call_down_from_wire), broken(DOWN)),
    "SyncUp": (parsed(pb.SyncUp, sync_codec.up_from_wire), broken(HELLO)),
    "SyncDown": (parsed(pb.SyncDown, sync_codec.down_from_wire), broken(DELTA)),
    "records": (parsed(pb.SyncDown, records), broken(DELTA)),
    "a value in etcd": (entries.read_entry, broken(b'{"address": "10.0.0.7:7400", "instance": "a", "software": "b"}')),
    "a key in etcd": (
        lambda b: entries.node_of(b"/mesh/nodes/", b), broken(b"/mesh/nodes/mesh.test/region/eu/node/eu-1")
    ),
    "a line of an audit": (
        lambda b: verify([Line("line 1", b), Line("line 2", AUDITED)]), broken(AUDITED, AUDITED.rstrip(b"\n"))
    ),
    "JSON": (jsons.loads, broken(b'{"a":[1,2.5,"\\u00e9"]}', b"[" * 300, b'"' + b"9" * 40 + b'"')),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS_OF_BYTES)
def test_of_bytes(name: str) -> None:
    read, near = READERS_OF_BYTES[name]

    @FUZZ
    @given(near | BYTES)
    def run(data: bytes) -> None:
        survives(lambda: read(data))

    run()


@FUZZ
@given(st.lists(st.tuples(BYTES, BYTES | st.none()), max_size=4), like("spiffe://mesh.test/region/eu/node/eu-1"))
def test_of_a_txt_record(pairs: list[tuple[bytes, bytes | None]], claimed: str) -> None:
    said = {b"mesh": b"mesh.test", b"id": claimed.encode("utf-8", "replace"), b"at": b"10.0.0.1:1", **dict(pairs)}
    survives(lambda: mdns._read(SimpleNamespace(properties=said), "mesh.test"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[NodeId, bytes, bytes, bytes]:
    home, node = tmp_path_factory.mktemp("ca"), NodeId.of("mesh.test", "eu", "eu-1")
    init_ca(home, "mesh.test")
    files = issue(home, node, home / "node")
    return node, files.ca.read_bytes(), files.cert.read_bytes(), files.key.read_bytes()


def test_of_a_certificate_that_a_peer_presents(certificate: tuple[NodeId, bytes, bytes, bytes]) -> None:
    from datetime import UTC, datetime

    node, ca, cert, _ = certificate
    authorities = parse_chain(ca, "the CA")

    @FUZZ
    @given(broken(cert) | BYTES)
    def run(pem: bytes) -> None:
        survives(lambda: vouch(pem, authorities, node, datetime.now(UTC)))

    run()


def test_of_a_signed_word_about_a_caller(certificate: tuple[NodeId, bytes, bytes, bytes]) -> None:
    from datetime import UTC, datetime

    node, ca, cert, key = certificate
    here = NodeId.of("here.test", "eu", "owner")
    checks = Assertions(here, {"mesh.test": parse_chain(ca, "the CA")}, now=lambda: datetime.now(UTC))
    call = Call("c", "files", "tools/call", {}, Principal("ann", kind="user"), via=("eu-1",))
    signed = Signer(node, cert, key).sign(call, here)

    @FUZZ
    @given(broken(signed) | BYTES)
    def run(assertion: bytes) -> None:
        if assertion != signed:
            with pytest.raises(Unauthenticated):
                checks.check(call, assertion, node)

    run()


def test_of_a_snapshot_of_the_index(tmp_path: Path) -> None:
    import numpy as np

    file = tmp_path / "index.snapshot"
    snapshot.write(file, {"a": 1}, {"x": np.arange(12, dtype=np.float32), "y": b"bytes"})
    whole = file.read_bytes()

    @FUZZ
    @given(broken(whole) | BYTES)
    def run(data: bytes) -> None:
        file.write_bytes(data)
        try:
            snapshot.read(file)
        except snapshot.Damaged:
            return

    run()


# ---- JSON --------------------------------------------------------------------------------------------

ISSUER = IssuerConfig(issuer="https://id.example", audiences=("https://mesh.example",))
CLAIMS = document(
    iss="https://id.example", sub="ann", aud=["https://mesh.example"], exp=4_000_000_000, nbf=1, iat=1, jti="1",
    scope="read write", groups=["a"], act={"sub": "agent", "act": {"sub": "b"}}, cnf={"x5t#S256": "A" * 43},
    typ="at+jwt", nonce="n", events={}, token_type="DPoP",
)  # fmt: skip
SERVER = document(
    issuer="https://id.example", authorization_endpoint="https://id.example/a", token_endpoint="https://id.example/t",
    scopes_supported=["a"], code_challenge_methods_supported=["S256"], grant_types_supported=["x"],
    token_endpoint_auth_methods_supported=["none"], registration_endpoint="javascript:x",
)  # fmt: skip
RESOURCE = document(
    resource="https://a.example/mcp", authorization_servers=["https://id.example"], scopes_supported=["a"]
)
KEY = document(
    kty="EC", crv="P-256", kid="1", use="sig", alg="ES256", key_ops=["verify"], n="AQAB", e="AQAB", k="AQAB", d="AQAB",
    x="f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", y="x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", x5c=["AA=="],
)  # fmt: skip
META = document(**{
    "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "progressToken": 1,
})  # fmt: skip
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "name": WORDS, "uri": WORDS, "cursor": WORDS, "arguments": JSON, "_meta": META | JSON, "taskId": JSON,
        "requestState": st.just(SEALED) | JSON, "inputResponses": JSON, "notifications": JSON, "ref": JSON,
    },
)  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON, "id": st.integers() | JSON, "params": PARAMS | JSON, "result": JSON,
        "method": st.sampled_from(["tools/call", "tools/list", "resources/read", "tasks/get", "initialize"]) | JSON,
        "error": JSON,
    },
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-Q", "Mcp-Session-Id", "traceparent"]),
    like("2026-07-28", "tools/call", "=?base64?Zm9v?=", "files"),
    max_size=5,
)


def of_message(message: Any, headers: dict[str, str]) -> None:
    """As an edge reads it: what it is, whether it may be, and where it says it goes."""
    shape = envelope.shape_of(message)
    ladder.has_envelope(message)
    if shape is not envelope.Shape.REQUEST:
        return
    head = CIMultiDict(headers)
    ladder.refused(message, head)
    ladder.refused(message, None)
    params = message.get("params") or {}
    ladder.param_mismatch(1, {"type": "object", "properties": {"q": {"x-mcp-header": "Q"}}}, params, head)
    incoming.trace_of(head, params)
    paging.position(params, "tools/list", "/mcp", 2)
    STATES.place(params.get("requestState"))
    task_ids.split(params)
    task_ids.holder(params.get("taskId"), {"a--b"})
    if isinstance(asked := params.get("notifications"), dict):
        task_ids.heard_of(asked, {"a--b"})


@FUZZ
@given(MESSAGE | JSON, HEADERS)
def test_of_messages(message: Any, headers: dict[str, str]) -> None:
    survives(lambda: of_message(message, headers))


READERS_OF_JSON: dict[str, tuple[Callable[[Any], Any], st.SearchStrategy[Any]]] = {
    "claims": (lambda d: claims.verified(d, ISSUER, "token/1", 1_000_000_000), CLAIMS),
    "an authorization server": (lambda d: metadata.authorization_server(d, "https://id.example"), SERVER),
    "a protected resource": (lambda d: metadata.resource_metadata(d, "https://a.example/mcp"), RESOURCE),
    "a set of keys": (jwks.keys_of, document(keys=[]) | st.lists(KEY | JSON, max_size=3).map(lambda k: {"keys": k})),
    "an answer about tasks": (
        lambda d: task_ids.outward("a--b", "tasks/list", {"result": d}), document(tasks=[{"taskId": "1"}], task={})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS_OF_JSON)
def test_of_documents(name: str) -> None:
    read, near = READERS_OF_JSON[name]

    @FUZZ
    @given(near | st.dictionaries(WORDS, JSON, max_size=4))
    def run(data: dict[str, Any]) -> None:
        survives(lambda: read(data))

    run()


@FUZZ
@given(
    st.sampled_from(sorted(k for k in GOVERNANCE if k in bodies.BODIES)), WORDS, st.dictionaries(TEXT, JSON) | CLAIMS
)
def test_of_what_authorities_lay_down(kind: Kind, name: str, body: dict[str, Any]) -> None:
    def read() -> None:
        record = Record.of(kind, name, body)
        bodies.item_of(record, "eu-1")
        bodies.body_of(kind, body)

    survives(read)


def test_the_fuzz_finds_a_reader_that_breaks() -> None:
    """A checker is proved by a mutant."""

    @FUZZ
    @given(like("a:b"))
    def run(text: str) -> None:
        def careless() -> str:
            left, right = text.split(":")
            return left + right

        survives(careless)

    random.seed(0)
    with pytest.raises(ValueError, match="unpack"):
        run()
