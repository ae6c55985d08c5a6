"""Who speaks for a caller at an owner: over real gRPC, in one trust domain and between two with a CA each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.asking import ForwardClient
from federation.ca import CA_FILE, init_ca, issue
from federation.credentials import parse_chain
from federation.refusals import Reason
from federation.tls import MeshTls
from federation.traffic import Traffic
from node import assertions
from node.assertions import Assertions, Signer
from proto import mesh_pb2 as pb
from proto.calls import Call
from proto.errors import Forbidden, Invalid, Unauthenticated, Unavailable
from proto.mesh_pb2_grpc import MeshStub
from proto.names import NodeId
from proto.records import Principal
from tests.wire.forwarding import ENTRY, Caller, Owner, Pair, a_call, the_end

pytestmark = pytest.mark.timeout(30)

HERE, ABROAD = NodeId.of("here.test", "eu", "owner"), NodeId.of("abroad.test", "us", "entry")
NEIGHBOUR = NodeId.of("abroad.test", "us", "neighbour")
BEA = Principal("bea", "https://id.abroad.test", "acme", ("staff",), ("read",), "user", ("agent",), "jti/7", 0)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class World:
    """An owner in one trust domain, which knows another domain's CA, and two nodes of that domain."""

    def __init__(self, home: Path) -> None:
        for domain in ("here.test", "abroad.test"):
            init_ca(home / domain, domain)
        # A bundle of both lets TLS through; in a mesh of one domain it would end there.
        bundle = b"".join((home / domain / CA_FILE).read_bytes() for domain in ("here.test", "abroad.test"))
        self.tls: dict[NodeId, MeshTls] = {}
        for node in (HERE, ABROAD, NEIGHBOUR):
            files = issue(home / node.trust_domain, node, home / node.name)
            self.tls[node] = MeshTls(bundle, files.cert.read_bytes(), files.key.read_bytes())
        self.authorities = parse_chain((home / "abroad.test" / CA_FILE).read_bytes(), "the bundle")
        self.mine = parse_chain((home / "here.test" / CA_FILE).read_bytes(), "the CA")

    def signer(self, node: NodeId, clock: Clock, *, of: NodeId | None = None) -> Signer:
        tls = self.tls[of or node]
        return Signer(node, tls.cert_pem, tls.key_pem, clock.seconds)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("domains"))


class Abroad:
    """Calls from a node of the other domain to the owner."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
        self.owner = Owner(world.tls[HERE], vouching=self.checks)

    def channel(self) -> grpc.aio.Channel:
        tls = self.world.tls[ABROAD]
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.owner.port}", tls.channel_credentials(), options=tls.channel_options(HERE)
        )

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[ForwardClient]:
        client = ForwardClient(self.channel, ABROAD.name, HERE, trouble=lambda _: None, traffic=Traffic(), **settings)
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture
async def abroad(world: World) -> AsyncIterator[Abroad]:
    abroad = Abroad(world, Clock())
    await abroad.owner.start()
    yield abroad
    await abroad.owner.stop()


# ---- one trust domain --------------------------------------------------------------------------------


@pytest.mark.parametrize("via", [[], ["owner"], ["entry", "entry"], ["else", "entry"], ["entry", "else"]])
async def test_a_call_that_does_not_say_who_took_it_in_does_not_run(pair: Pair, via: list[str]) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        await stream.write(pb.CallUp(call_id="c", open=pb.Open(params=b"{}", budget_ms=10_000, via=via)))
        end = await the_end(stream)
        assert (end.error.kind, "via is" in end.error.message) == (pb.ErrorKind.ERROR_KIND_INVALID, True)
        stream.cancel()
    assert pair.owner.ran == []


@pytest.mark.parametrize(
    "principal",
    [
        pb.Principal(subject="entry", kind="node"),
        pb.Principal(subject="ann"),
        pb.Principal(subject="ann\n2026 granted", kind="user"),
        pb.Principal(subject="", kind="user"),
        pb.Principal(subject="anonymous", kind="anonymous", scopes=["operator"]),
        pb.Principal(subject="ann", kind="user", groups=[f"g{n}" for n in range(300)]),
        pb.Principal(subject="ann", kind="user", expires_s=2**63),
    ],
)
async def test_words_about_a_caller_that_no_authenticator_says_do_not_run(pair: Pair, principal: pb.Principal) -> None:
    async with pair.channel() as channel:
        stream = MeshStub(channel).Forward()
        ask = pb.Open(params=b"{}", budget_ms=10_000, via=[ENTRY.name], principal=principal)
        await stream.write(pb.CallUp(call_id="c", open=ask))
        assert (await the_end(stream)).error.kind == pb.ErrorKind.ERROR_KIND_INVALID
        await stream.write(pb.CallUp(call_id="q", query=pb.Query(principal=principal)))
        assert (await the_end(stream)).error.kind == pb.ErrorKind.ERROR_KIND_INVALID
        stream.cancel()
    assert pair.owner.ran == []


async def test_the_caller_arrives_as_its_entry_node_knows_him(pair: Pair) -> None:
    await pair.run(replace(a_call(), principal=BEA))
    ((call, peer),) = pair.owner.calls
    assert (call.principal, call.via, peer) == (BEA, (ENTRY.name,), ENTRY)


# ---- two trust domains -------------------------------------------------------------------------------


async def test_a_caller_from_another_domain_is_believed_where_his_entry_node_signs(abroad: Abroad) -> None:
    signer = abroad.world.signer(ABROAD, abroad.clock)
    long = {"text": "x" * 2_000_000}
    async with abroad.client(sign=lambda call: signer.sign(call, HERE)) as client:
        for n, params in enumerate(({"n": 1}, long)):
            answer = await client.call(replace(a_call(f"c{n}"), params=params, principal=BEA), Caller())
            assert answer == {"result": params}
    assert [(call.principal, peer) for call, peer in abroad.owner.calls] == [(BEA, ABROAD)] * 2


async def test_without_a_signature_nobody_from_another_domain_runs_anything(abroad: Abroad) -> None:
    async with abroad.client() as client:
        with pytest.raises(Unauthenticated, match="did not sign who calls"):
            await client.call(replace(a_call(), principal=BEA), Caller())
    assert abroad.owner.ran == []
    assert abroad.owner.forward.refusals.totals["here", Reason.VOUCHING] == 1


async def test_a_node_without_signatures_takes_nothing_from_another_domain(world: World) -> None:
    checks = Assertions(HERE, {}, now=Clock())
    with pytest.raises(Forbidden, match="knows no CA"):
        checks.check(replace(a_call(), via=(ABROAD.name,)), b"", ABROAD)


def the_call(**changes: Any) -> Call:
    call = Call("c1", "files", "tools/call", {"name": "read", "arguments": {"path": "a"}}, BEA, via=(ABROAD.name,))
    return replace(call, **changes)


async def test_it_is_taken_once(world: World) -> None:
    clock = Clock()
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
    signed = world.signer(ABROAD, clock).sign(the_call(), HERE)
    checks.check(the_call(), signed, ABROAD)
    for later_s in (0, 59, 30):
        clock.pass_s(later_s)
        with pytest.raises(Unauthenticated, match=r"before|expired"):
            checks.check(the_call(), signed, ABROAD)


async def test_what_is_remembered_as_taken_is_bounded_and_beyond_it_nothing_is_taken(world: World) -> None:
    clock = Clock()
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock, taken_max=2)
    signer = world.signer(ABROAD, clock)

    def take(name: str) -> None:
        checks.check(the_call(call_id=name), signer.sign(the_call(call_id=name), HERE), ABROAD)

    take("a")
    take("b")
    with pytest.raises(Unavailable, match="try again"):
        take("c")
    clock.pass_s(assertions.LIFE_S + 2 * assertions.SKEW_S)
    take("c")
    assert repr(checks) == f"Assertions({HERE.uri}, 1 other domains, 1 taken)"


@pytest.mark.parametrize(
    "changes",
    [
        {"call_id": "c2"},
        {"server": "payroll"},
        {"method": "resources/read"},
        {"params": {"name": "delete", "arguments": {"path": "a"}}},
        {"params": {"name": "read", "arguments": {"path": "b"}}},
        {"tool_digest": b"\x01" * 32},
        {"principal": replace(BEA, subject="root")},
        {"principal": replace(BEA, tenant="other")},
        {"principal": replace(BEA, scopes=("read", "operator"))},
        {"principal": replace(BEA, actors=())},
        {"principal": replace(BEA, credential="jti/8")},
        {"principal": replace(BEA, expires_s=1)},
        {"principal": replace(BEA, kind="service")},
    ],
)
def test_a_word_about_one_call_counts_for_no_other(world: World, changes: dict[str, Any]) -> None:
    clock = Clock()
    signed = world.signer(ABROAD, clock).sign(the_call(), HERE)
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
    with pytest.raises(Unauthenticated, match=r"another call|another caller"):
        checks.check(the_call(**changes), signed, ABROAD)
    checks.check(the_call(), signed, ABROAD)


def test_a_word_for_another_owner_or_of_another_node_or_under_another_key_counts_for_nothing(world: World) -> None:
    clock = Clock()
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
    signer, neighbour = world.signer(ABROAD, clock), world.signer(NEIGHBOUR, clock)
    forgeries = [
        signer.sign(the_call(), NodeId.of("here.test", "eu", "other")),
        neighbour.sign(the_call(), HERE),
        # Its own certificate, another's name; and a certificate of this very domain.
        world.signer(ABROAD, clock, of=NEIGHBOUR).sign(the_call(), HERE),
        world.signer(ABROAD, clock, of=HERE).sign(the_call(), HERE),
    ]
    for forged in forgeries:
        with pytest.raises(Unauthenticated):
            checks.check(the_call(), forged, ABROAD)
    # Signed as it should be, and under a CA that is not the one of that domain.
    with pytest.raises(Unauthenticated):
        Assertions(HERE, {"abroad.test": world.mine}, now=clock).check(
            the_call(), signer.sign(the_call(), HERE), ABROAD
        )


def test_nothing_of_it_can_be_changed_and_no_header_chooses_how_it_is_read(world: World) -> None:
    clock = Clock()
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
    signed = world.signer(ABROAD, clock).sign(the_call(), HERE)
    head, payload, signature = signed.split(b".")
    other_head, other_payload, other_signature = world.signer(NEIGHBOUR, clock).sign(the_call(), HERE).split(b".")
    none = b"eyJhbGciOiJub25lIn0"  # {"alg":"none"}
    hmac = b"eyJhbGciOiJIUzI1NiJ9"  # {"alg":"HS256"}
    broken = [
        b"", b".", b"..", b"a.b.c", b"\xff\xfe", b"x" * 100_000, signed[:-4], signed + b"A", signed + b"." + signature,
        b".".join((none, payload, b"")), b".".join((none, payload, signature)), b".".join((hmac, payload, signature)),
        b".".join((head, other_payload, signature)), b".".join((other_head, payload, signature)),
        b".".join((head, payload, other_signature)), b".".join((head, payload, b"")),
    ]  # fmt: skip
    for assertion in broken:
        with pytest.raises(Unauthenticated):
            checks.check(the_call(), assertion, ABROAD)
    checks.check(the_call(), signed, ABROAD)


@pytest.mark.parametrize("offset_s", [-(assertions.LIFE_S + assertions.SKEW_S), assertions.SKEW_S + 1])
def test_a_word_counts_for_a_minute_and_from_now_on(world: World, offset_s: int) -> None:
    clock, theirs = Clock(), Clock()
    theirs.now = clock.now + timedelta(seconds=offset_s)
    signed = world.signer(ABROAD, theirs).sign(the_call(), HERE)
    with pytest.raises(Unauthenticated, match="clocks"):
        Assertions(HERE, {"abroad.test": world.authorities}, now=clock).check(the_call(), signed, ABROAD)


def test_a_road_through_a_third_node_is_closed_though_it_is_signed(world: World) -> None:
    clock = Clock()
    checks = Assertions(HERE, {"abroad.test": world.authorities}, now=clock)
    call = the_call(via=(NEIGHBOUR.name, ABROAD.name))
    with pytest.raises(Invalid, match="through a relay"):
        checks.check(call, world.signer(ABROAD, clock).sign(call, HERE), ABROAD)


def test_the_key_and_the_callers_words_are_in_no_repr(world: World) -> None:
    assert repr(world.signer(ABROAD, Clock())) == f"Signer({ABROAD.uri})"
