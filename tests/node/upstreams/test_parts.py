"""The small pure parts: specs, lines, waits, chatter, the gate's words."""

from __future__ import annotations

import asyncio
import itertools
import logging

import mcp_types.version
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.upstreams import gate as gate_module
from node.upstreams.backoff import Backoff
from node.upstreams.channel import legacy_dress
from node.upstreams.chatter import BURST_LINES, Chatter
from node.upstreams.gate import Gate
from node.upstreams.handshake import HANDSHAKE_VERSIONS
from node.upstreams.lines import LineSplitter, Overlong
from node.upstreams.process import environment, how_it_ended
from node.upstreams.spec import UpstreamSpec
from proto.errors import Exhausted, Expired, Invalid


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "either 'command' or 'url'"),
        ({"command": ("a",), "url": "http://h/"}, "either 'command' or 'url'"),
        ({"command": "a b"}, "write it as a list"),
        ({"command": ("",)}, "is empty"),
        ({"url": "ftp://h/"}, "http(s)://HOST"),
        ({"url": "http:///mcp"}, "http(s)://HOST"),
        ({"url": "http://u:p@h/"}, "holds credentials"),
        ({"url": "http://h/", "headers": {"A": "b\r\nC: d"}}, "header 'A'"),
        ({"command": ("a",), "concurrency": 0}, "'concurrency' is 0"),
        ({"command": ("a",), "call_timeout_s": -1}, "'call_timeout_s' is -1"),
    ],
)
def test_a_wrong_spec_names_the_field_and_the_mend(more, says):
    with pytest.raises(Invalid) as e:
        UpstreamSpec("s", **more)
    assert says in e.value.message


def test_a_spec_with_a_bad_name_is_refused():
    with pytest.raises(Invalid, match="server name"):
        UpstreamSpec("No_Good", command=("a",))


@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").rstrip(b"\r")), max_size=8),
    st.lists(st.integers(0, 120), max_size=8),
)
def test_lines_are_the_same_however_the_chunks_fall(lines, cuts):
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
    splitter = LineSplitter(100)
    got = [x for a, b in itertools.pairwise(edges) for x in splitter.feed(stream[a:b])]
    assert got == lines
    assert splitter.end() == b"rest"


def test_a_line_beyond_the_bound_is_reported_once_and_skipped_to_its_end():
    splitter = LineSplitter(10)
    got = [x for chunk in (b"ok\r\n12345", b"678901", b"more and more", b"\nfine\n") for x in splitter.feed(chunk)]
    assert got == [b"ok", Overlong(b"12345678901"), b"fine"]


def test_waits_double_up_to_the_bound_and_start_anew():
    backoff = Backoff(1.0, 5.0, uniform=lambda low, high: high)
    assert [backoff.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_s() == 1
    assert Backoff(1.0, uniform=lambda low, high: low).next_s() == 0.5


def test_stderr_beyond_the_rate_is_counted_instead_of_logged(caplog):
    caplog.set_level(logging.INFO, "toolmesh.upstreams")
    now = [0.0]
    chatter = Chatter("s", clock=lambda: now[0])
    for i in range(BURST_LINES + 50):
        chatter.line(b"line %d" % i)
    assert len(caplog.records) == BURST_LINES
    now[0] = 1.0
    chatter.line(b"\x1b[31mred\x1b[0m \xff")
    assert "50 lines of its stderr were left out" in caplog.records[-2].message
    assert "\x1b" not in caplog.records[-1].message
    assert chatter.last() == " [31mred [0m \ufffd"


def test_the_environment_keeps_what_is_harmless_and_what_is_given():
    own = {"PATH": "/bin", "LC_ALL": "C", "SECRET": "x", "HOME": "/h", "AWS_KEY": "y"}
    assert environment({"PATH": "/x", "A": "1"}, own) == {"PATH": "/x", "LC_ALL": "C", "HOME": "/h", "A": "1"}


def test_how_a_process_ended_in_words():
    assert how_it_ended(None) == "closed its output"
    assert how_it_ended(3) == "exited with status 3"
    assert how_it_ended(-9) == "was killed by SIGKILL"


def test_our_handshake_revisions_are_the_published_ones():
    assert mcp_types.version.HANDSHAKE_PROTOCOL_VERSIONS == HANDSHAKE_VERSIONS


def test_the_envelope_of_another_hop_is_left_out_and_the_rest_kept():
    hop = "io.modelcontextprotocol/clientInfo"
    assert legacy_dress({"a": 1, "_meta": {hop: {}}}, {}) == {"a": 1}
    assert legacy_dress({"_meta": {hop: {}, "x": 1}}, {}) == {"_meta": {"x": 1}}
    untouched = {"_meta": {"x": 1}}
    assert legacy_dress(untouched, {}) is untouched


async def test_a_wait_for_a_slot_is_bounded(monkeypatch):
    monkeypatch.setattr(gate_module, "WAIT_MAX_S", 0.01)
    gate = Gate("s", 1)
    now = asyncio.get_running_loop().time()
    await gate.enter(now + 60)
    with pytest.raises(Exhausted, match="stayed busy"):
        await gate.enter(now + 60)
    assert gate.running == 1
    gate.leave()
    await gate.enter(now + 60)
    assert gate.running == 1
    gate.leave()
    assert gate.running == 0


async def test_calls_that_wait_for_people_in_turn_let_in_no_more_than_there_are_slots():
    gate = Gate("s", 1)
    soon = asyncio.get_running_loop().time() + 0.01
    later = soon + 60
    await gate.enter(later)
    gate.step_out()
    await gate.enter(later)
    gate.step_in()
    assert gate.running == 2
    gate.step_out()
    # One runs, as many as there are slots: nobody else comes in.
    with pytest.raises(Expired):
        await gate.enter(soon)
    gate.step_in()
    gate.leave()
    gate.leave()
    await gate.enter(later)
    assert gate.running == 1
