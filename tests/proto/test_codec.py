"""Domain values survive the wire unchanged; what this version does not know is refused as `Invalid`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import calls, codec, frames, sync_codec
from proto import mesh_pb2 as pb
from proto.errors import ERRORS, Fault, Invalid
from proto.records import ANONYMOUS, Kind, Principal, Record, RecordKey, Version

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BYTES = st.binary(max_size=40)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
FEATURES = st.frozensets(TEXT, max_size=3)
JSON_OBJECTS = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT, lambda s: st.lists(s, max_size=3), max_leaves=5
    ),
    max_size=4,
)
KEYS = st.builds(RecordKey, st.sampled_from(Kind), TEXT)
MANIFESTS = st.dictionaries(KEYS, BYTES, max_size=4)
RECORDS = st.builds(Record, st.sampled_from(Kind), TEXT, BYTES, BYTES, TEXT, TEXT, BYTES)
RECORD_TUPLES = st.lists(RECORDS, max_size=3).map(tuple)
PRINCIPALS = st.builds(Principal, TEXT, TEXT, TEXT, TEXTS, TEXTS, TEXT, TEXTS, TEXT, st.integers(0, 2**64 - 1))
FLOATS = st.floats(0, allow_infinity=False)

UPS: st.SearchStrategy[frames.Up] = st.one_of(
    st.builds(frames.Hello, TEXT, st.builds(Version, U64, U64), MANIFESTS, U32, U32, FEATURES, TEXT),
    st.builds(frames.Ack, U64),
    st.builds(frames.Reject, U64, KEYS, TEXT),
    st.builds(frames.Refuse, TEXT, TEXT),
)
DOWNS: st.SearchStrategy[frames.Down] = st.one_of(
    st.builds(frames.Welcome, U64, BYTES, U64, st.sampled_from(frames.Mode), st.booleans(), U32, FEATURES, TEXT),
    st.builds(frames.Delta, U64, U64, U64, RECORD_TUPLES, st.lists(KEYS, max_size=3).map(tuple), st.booleans()),
    st.builds(frames.Snapshot, U64, U64, MANIFESTS, RECORD_TUPLES, st.booleans(), st.booleans()),
    st.builds(frames.Beat, U64, FLOATS, FLOATS, st.booleans(), BYTES, st.booleans(), U64),
    st.builds(frames.Bye, st.sampled_from(frames.Farewell)),
)
FAILED = st.builds(calls.Failed, st.sampled_from(sorted(ERRORS)), TEXT, JSON_OBJECTS)


def opens(call_id: str) -> st.SearchStrategy[calls.Open]:
    def call(params: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[calls.Call]:
        trace = st.dictionaries(TEXT, TEXT, max_size=3)
        return st.builds(
            calls.Call,
            st.just(call_id), TEXT, TEXT, params, PRINCIPALS, U32, TEXT, BYTES, TEXT, JSON_OBJECTS, TEXTS, trace,
        )  # fmt: skip

    return st.builds(calls.Open, call(JSON_OBJECTS)) | st.builds(
        calls.Open, call(st.just({})), st.integers(1, 2**32 - 1)
    )


CALL_UPS: st.SearchStrategy[calls.CallUp] = st.one_of(
    opens("id-1"),
    st.builds(calls.Reply, U32, JSON_OBJECTS, st.none() | FAILED, U32),
    st.builds(calls.Cancel, TEXT),
    st.builds(calls.Query, PRINCIPALS),
    st.builds(calls.Window, U32),
    st.builds(calls.Chunk, BYTES),
)
CALL_DOWNS: st.SearchStrategy[calls.CallDown] = st.one_of(
    st.just(calls.Accepted()),
    st.builds(calls.Event, JSON_OBJECTS, U32),
    st.builds(calls.Settled),
    st.builds(calls.Request, U32, JSON_OBJECTS, U32),
    st.builds(calls.Chunk, BYTES),
    st.builds(calls.Result, st.none() | st.binary(min_size=1, max_size=40), U32, st.booleans()),
    FAILED,
    st.builds(calls.Window, U32),
)


@given(RECORDS)
def test_records_survive_the_wire(record: Record) -> None:
    wire = pb.Record.FromString(codec.record_to_wire(record).SerializeToString())
    assert codec.record_from_wire(wire) == record


@given(UPS)
def test_frames_to_an_owner_survive_the_wire(frame: frames.Up) -> None:
    wire = pb.SyncUp.FromString(sync_codec.up_to_wire(frame).SerializeToString())
    assert sync_codec.up_from_wire(wire) == frame


@given(DOWNS)
def test_frames_from_an_owner_survive_the_wire(frame: frames.Down) -> None:
    wire = pb.SyncDown.FromString(sync_codec.down_to_wire(frame).SerializeToString())
    assert sync_codec.down_from_wire(wire) == frame


@given(CALL_UPS)
def test_frames_of_a_call_on_its_way_survive_the_wire(frame: calls.CallUp) -> None:
    wire = pb.CallUp.FromString(codec.call_up_to_wire("id-1", frame).SerializeToString())
    assert codec.call_up_from_wire(wire) == ("id-1", frame)


@given(CALL_DOWNS)
def test_frames_of_a_call_on_its_way_back_survive_the_wire(frame: calls.CallDown) -> None:
    wire = pb.CallDown.FromString(codec.call_down_to_wire("id-1", frame).SerializeToString())
    assert codec.call_down_from_wire(wire) == ("id-1", frame)


def test_the_member_order_of_params_survives_the_wire() -> None:
    call = calls.Call("id", "s", "m", {"b": 1, "a": 2})
    _, frame = codec.call_up_from_wire(codec.call_up_to_wire("id", calls.Open(call)))
    assert isinstance(frame, calls.Open)
    assert list(frame.call.params) == ["b", "a"]


@pytest.mark.parametrize("kind", sorted(set(ERRORS) - {Fault.kind}))
def test_an_error_comes_back_as_the_kind_it_was(kind: str) -> None:
    error = ERRORS[kind]("so it is", message="inner", call_id="7", deep={"a": [1, None]})
    back = codec.failed_to_error(codec.error_to_failed(error))
    assert (type(back), back.message, back.data) == (type(error), error.message, error.data)


def test_a_fault_keeps_its_message_at_home_and_its_id_everywhere() -> None:
    fault = Fault("the password was hunter2", fault_id="f1", local="x")
    failed = codec.error_to_failed(fault)
    assert failed == calls.Failed("fault", "internal error", {"fault_id": "f1"})
    assert codec.failed_to_error(failed).data == {"fault_id": "f1"}


@pytest.mark.parametrize("number", [0, 99])
def test_unknown_enum_values_are_refused(number: Any) -> None:
    for read in (
        lambda: codec.record_from_wire(pb.Record(kind=number)),
        lambda: sync_codec.down_from_wire(pb.SyncDown(welcome=pb.Welcome(mode=number))),
        lambda: sync_codec.down_from_wire(pb.SyncDown(bye=pb.Bye(reason=number))),
        lambda: codec.call_down_from_wire(pb.CallDown(error=pb.Error(kind=number))),
        lambda: codec.call_up_from_wire(pb.CallUp(reply=pb.Reply(error=pb.Error(kind=number)))),
    ):
        with pytest.raises(Invalid, match="not known to this version"):
            read()


@pytest.mark.parametrize("number", [0, 99])
def test_what_is_of_a_kind_unknown_here_is_left_out_alone_and_named(number: Any) -> None:
    odd, good = pb.Record(kind=number, id="x"), pb.Record(kind=pb.Kind.KIND_TOOL, id="s/y")
    key = pb.RecordKey(kind=number, id="x")
    delta = sync_codec.down_from_wire(pb.SyncDown(delta=pb.Delta(puts=[odd, good], deletes=[key])))
    assert isinstance(delta, frames.Delta)
    assert [r.id for r in delta.puts] == ["s/y"]
    assert (delta.deletes, delta.foreign) == ((), (f"kind {number}, 1 characters: 'x'",))
    entries = [pb.ManifestEntry(kind=number, id="x"), pb.ManifestEntry(kind=pb.Kind.KIND_TOOL, id="s/y")]
    snapshot = sync_codec.down_from_wire(pb.SyncDown(snapshot=pb.Snapshot(all=entries, bodies=[odd, good])))
    assert isinstance(snapshot, frames.Snapshot)
    assert [k.id for k in snapshot.all] == [r.id for r in snapshot.bodies] == ["s/y"]
    assert snapshot.foreign == delta.foreign
    hello = sync_codec.up_from_wire(pb.SyncUp(hello=pb.Hello(manifest=entries)))
    assert isinstance(hello, frames.Hello)
    assert [k.id for k in hello.manifest] == ["s/y"]
    assert sync_codec.up_from_wire(pb.SyncUp(reject=pb.Reject(kind=number, id="x"))) is None


def test_a_record_of_an_endless_name_is_left_out_alone() -> None:
    odd, good = pb.Record(kind=pb.Kind.KIND_TOOL, id="s/" + "x" * 5000), pb.Record(kind=pb.Kind.KIND_TOOL, id="s/y")
    delta = sync_codec.down_from_wire(pb.SyncDown(delta=pb.Delta(puts=[odd, good])))
    assert isinstance(delta, frames.Delta)
    assert ([r.id for r in delta.puts], len(delta.foreign)) == (["s/y"], 1)
    assert len(delta.foreign[0]) < 200


def test_a_frame_of_a_newer_build_is_ignored() -> None:
    newer = bytes([0xF2, 0x01, 0x02, 0x08, 0x01])  # field 30, a message
    assert sync_codec.up_from_wire(pb.SyncUp.FromString(newer)) is None
    assert sync_codec.down_from_wire(pb.SyncDown.FromString(newer)) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_a_beat_tells_of_finite_amounts(number: float) -> None:
    for beat in (pb.Beat(load=number), pb.Beat(lag_ms=number)):
        with pytest.raises(Invalid, match="it is a finite number"):
            sync_codec.down_from_wire(pb.SyncDown(beat=beat))


def test_words_of_a_peer_are_bounded() -> None:
    hello = pb.Hello(software="x" * 10_000, features=["y" * 10_000, *(f"f{i}" for i in range(10_000))])
    frame = sync_codec.up_from_wire(pb.SyncUp(hello=hello))
    assert isinstance(frame, frames.Hello)
    assert (len(frame.software), len(frame.features)) == (100, 63)


def test_a_message_without_a_frame_is_refused() -> None:
    for read in (
        lambda: sync_codec.up_from_wire(pb.SyncUp()),
        lambda: sync_codec.down_from_wire(pb.SyncDown()),
        lambda: codec.call_up_from_wire(pb.CallUp(call_id="7")),
        lambda: codec.call_down_from_wire(pb.CallDown(call_id="7")),
    ):
        with pytest.raises(Invalid, match="no frame"):
            read()


@pytest.mark.parametrize("text", [b"[]", b"{", b"1", b'{"a": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(text: bytes) -> None:
    for read in (
        lambda: codec.call_up_from_wire(pb.CallUp(open=pb.Open(params=text))),
        lambda: codec.call_up_from_wire(pb.CallUp(open=pb.Open(client_capabilities=text))),
        lambda: codec.call_down_from_wire(pb.CallDown(event=pb.Event(notification=text))),
        lambda: codec.call_down_from_wire(pb.CallDown(error=pb.Error(kind=pb.ErrorKind.ERROR_KIND_INVALID, data=text))),
    ):
        with pytest.raises(Invalid):
            read()


def test_an_open_without_a_principal_is_anonymous() -> None:
    _, frame = codec.call_up_from_wire(pb.CallUp(call_id="7", open=pb.Open(server="s")))
    assert isinstance(frame, calls.Open)
    assert frame.call.principal == ANONYMOUS


def test_what_the_wire_cannot_carry_is_refused_by_name() -> None:
    for write in (
        lambda: sync_codec.up_to_wire(frames.Ack(-1)),
        lambda: sync_codec.up_to_wire(frames.Ack(2**64)),
        lambda: sync_codec.up_to_wire(frames.Hello("\ud800")),
        lambda: codec.record_to_wire(Record(Kind.TOOL, "\ud800", b"", b"")),
        lambda: codec.call_up_to_wire("7", calls.Open(calls.Call("7", "s", "m", {}, budget_ms=2**32))),
        lambda: codec.call_up_to_wire("7", calls.Open(calls.Call("7", "s", "m", {}, budget_ms=-1))),
        lambda: codec.call_down_to_wire("7", calls.Window(-1)),
    ):
        with pytest.raises(Invalid, match="does not fit the wire"):
            write()


def test_an_error_kind_out_of_the_tree_is_refused() -> None:
    with pytest.raises(Invalid, match="error kind 'odd'"):
        codec.failed_to_error(calls.Failed("odd", ""))
    with pytest.raises(Invalid, match="error kind 'odd'"):
        codec.failed_to_wire(calls.Failed("odd", ""))
