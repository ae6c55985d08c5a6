"""A log that somebody has been at: the first record that is wrong is named, whatever was done."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.ca import init_ca, issue
from node.audit.chain import CHECKPOINT_RECORDS, Head, genesis, linked, unlinked
from node.audit.memory import MemoryAuditStore
from node.audit.signing import KEY_FILE, TrustedKeys, key_ids, own_key, signer_of
from node.audit.verifying import Verdict, verify
from proto.errors import Invalid
from proto.names import NodeId
from tests.node.audit.logs import call_of, ended, lines_of, numbered, recorder, stopped


@cache
def log() -> tuple[tuple[bytes, ...], str]:
    """The lines of a node that ran and stopped, and the id of its key. Signed every 60 ms or so, and at the stop."""

    async def run(keys: Path) -> tuple[tuple[bytes, ...], str]:
        store = MemoryAuditStore()
        audit = recorder(store, keys)
        audit.start(version="test")
        for n in range(1, 9):
            audit.call(call_of(n), ended(call_of(n)))
        await stopped(audit)
        again = recorder(store, keys)
        again.start(version="test")
        for n in range(9, 13):
            again.call(call_of(n), ended(call_of(n)))
        await stopped(again)
        return tuple(lines_of(store)), key_ids((keys / KEY_FILE).read_bytes(), "the key")

    with TemporaryDirectory() as directory:
        return asyncio.run(run(Path(directory)))


def check(lines: list[bytes], **more: Any) -> Verdict:
    return verify(numbered(lines), **more)


def test_a_log_that_nobody_was_at_is_whole_signed_and_ends_with_its_stop() -> None:
    lines, key = log()
    verdict = check(list(lines), trust=TrustedKeys(frozenset({key})))
    assert verdict.intact
    assert (verdict.records, verdict.first, verdict.last) == (len(lines), 1, len(lines))
    assert (verdict.begins, verdict.ends, verdict.node) == ("genesis", "stopped", "eu-1")
    assert verdict.signed_to == len(lines) - 1
    assert verdict.keys == [key]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_byte_that_is_flipped_is_found_in_its_own_record(data: st.DataObject) -> None:
    lines = list(log()[0])
    i = data.draw(st.integers(0, len(lines) - 1), "line")
    at = data.draw(st.integers(0, len(lines[i]) - 1), "byte")
    flipped = bytearray(lines[i])
    flipped[at] ^= data.draw(st.integers(1, 255), "by")
    lines[i] = bytes(flipped)
    # As a file is read: by its line breaks, which may be what was flipped.
    verdict = check(_split(b"".join(lines)))
    if i == len(lines) - 1 and at == len(flipped) - 1:
        # The very last byte is a break: without it the line looks as if it had not been written whole.
        assert verdict.ends == "torn"
    else:
        assert verdict.flaw is not None
        assert verdict.last <= i
        assert verdict.flaw.seq in (0, i + 1, i + 2)


def _split(text: bytes) -> list[bytes]:
    return [part + b"\n" for part in text.split(b"\n")[:-1]] + ([rest] if (rest := text.rpartition(b"\n")[2]) else [])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_line_that_is_taken_out_of_the_middle_is_missed_by_its_number(data: st.DataObject) -> None:
    lines = list(log()[0])
    first = data.draw(st.integers(0, len(lines) - 2), "first")
    past = data.draw(st.integers(first + 1, len(lines) - 1), "past")
    verdict = check(lines[:first] + lines[past:])
    assert verdict.flaw is not None
    assert verdict.flaw.what == ("gap" if first else "start")
    assert verdict.flaw.seq == (first + 1 if first else past)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_line_that_is_moved_is_named_where_it_should_stand(data: st.DataObject) -> None:
    lines = list(log()[0])
    a = data.draw(st.integers(0, len(lines) - 2), "a")
    b = data.draw(st.integers(a + 1, len(lines) - 1), "b")
    lines.insert(b, lines.pop(a))
    verdict = check(lines)
    assert verdict.flaw is not None
    assert verdict.flaw.seq == a + 1


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_line_that_is_put_in_is_found_at_the_latest_by_what_follows_it(data: st.DataObject) -> None:
    lines = list(log()[0])
    at = data.draw(st.integers(1, len(lines) - 1), "at")
    head = unlinked(lines[at - 1][:-1]).head
    facts = {"at": "2026-01-01T00:00:00.000Z", "kind": "admin", "node": "eu-1", "action": "nothing to see here"}
    forged = data.draw(st.sampled_from([lines[at - 1], lines[0], linked(facts, head)[0] + b"\n", b"{}\n", b"\n"]))
    verdict = check([*lines[:at], forged, *lines[at:]])
    assert verdict.flaw is not None
    assert verdict.flaw.seq in (0, 1, at, at + 1)


def rewritten(lines: list[bytes], at: int, keep_checkpoints: bool = True) -> list[bytes]:
    """What someone without the key does: change record `at`, and write every hash anew after it."""
    done, head = lines[: at - 1], unlinked(lines[at - 2][:-1]).head
    for line in lines[at - 1 :]:
        record = unlinked(line[:-1]).record
        del record["hash"]
        if "checkpoint" in record and not keep_checkpoints:
            record = {k: v for k, v in record.items() if k != "checkpoint"}
        if record["seq"] == at:
            record["outcome"] = "forged"
        written, head = linked(record, head)
        done.append(written + b"\n")
    return done


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_record_that_was_changed_and_hashed_anew_is_found_by_what_follows_it(data: st.DataObject) -> None:
    lines = list(log()[0])
    at = data.draw(st.integers(2, len(lines) - 1), "at")
    lines[at - 1] = rewritten(lines, at)[at - 1]
    verdict = check(lines)
    assert verdict.flaw is not None
    what = "checkpoint" if "checkpoint" in unlinked(lines[at - 1][:-1]).record else "link"
    assert (verdict.flaw.what, verdict.flaw.seq) in ((what, at), ("link", at + 1))


def test_who_has_not_the_key_cannot_write_history_anew_before_a_checkpoint() -> None:
    lines, key = log()
    forged = rewritten(list(lines), 4)
    verdict = check(forged)
    assert verdict.flaw is not None
    assert verdict.flaw.what in ("checkpoint", "signature")
    signed_anew = rewritten_and_signed(list(lines), 4)
    assert check(signed_anew).intact, "with a key of one's own everything can be signed"
    refused = check(signed_anew, trust=TrustedKeys(frozenset({key})))
    assert refused.flaw is not None
    assert refused.flaw.what == "signature"
    assert "none of the keys that are trusted" in refused.flaw.text


def rewritten_and_signed(lines: list[bytes], at: int) -> list[bytes]:
    with TemporaryDirectory() as directory:
        mine = own_key(Path(directory))
    done: list[bytes] = []
    head = genesis("mesh.test", "eu-1")
    for line in lines:
        record = unlinked(line[:-1]).record
        del record["hash"]
        if record["seq"] == at:
            record["outcome"] = "forged"
        if "checkpoint" in record:
            record["checkpoint"] = mine.checkpoint("mesh.test", "eu-1", head)
        written, head = linked(record, head)
        done.append(written + b"\n")
    return done


def test_leaving_every_checkpoint_out_is_no_way_around_it() -> None:
    head, lines = genesis("mesh.test", "eu-1"), []
    for n in range(CHECKPOINT_RECORDS + 1):
        line, head = linked({"kind": "call", "node": "eu-1", "mesh": "mesh.test", "n": n}, head)
        lines.append(line + b"\n")
    assert check(lines[:-1]).signed_to == 0
    verdict = check(lines)
    assert verdict.flaw is not None
    assert (verdict.flaw.what, verdict.flaw.seq) == ("unsigned", CHECKPOINT_RECORDS + 1)


def test_an_end_that_was_cut_off_is_known_only_by_what_was_remembered_elsewhere() -> None:
    lines = list(log()[0])
    cut = check(lines[:-3])
    assert cut.intact
    assert cut.ends == "open"
    head = unlinked(lines[-1][:-1]).head
    told = check(lines[:-3], heads=[head])
    assert told.flaw is not None
    assert (told.flaw.what, told.flaw.seq) == ("tail", len(lines) - 2)
    assert check(lines, heads=[head]).intact
    other = check(lines, heads=[Head(5, b"\x01" * 32)])
    assert other.flaw is not None
    assert (other.flaw.what, other.flaw.seq) == ("head", 5)
    gone = check([], heads=[head])
    assert gone.flaw is not None
    assert gone.flaw.what == "tail"


def test_a_line_that_was_not_written_whole_is_told_from_one_that_was_changed() -> None:
    lines = list(log()[0])
    torn = check([*lines[:-1], lines[-1][:-20]])
    assert torn.intact
    assert torn.ends == "torn"
    within = check([*lines[:4], lines[4][:-20], *lines[5:]])
    assert within.flaw is not None
    assert within.flaw.what == "line"


def test_a_part_of_a_log_is_checked_from_what_the_reader_says_it_follows() -> None:
    lines = list(log()[0])
    head = unlinked(lines[5][:-1]).head
    assert check(lines[6:], after=head).begins == "given"
    unexplained = check(lines[6:])
    assert unexplained.flaw is not None
    assert f"--after {head}" in unexplained.flaw.text
    wrong = check(lines[6:], after=Head(6, b"\x00" * 32))
    assert wrong.flaw is not None
    assert wrong.flaw.what == "start"


def test_the_log_of_another_node_is_no_continuation_and_no_stand_in() -> None:
    lines = list(log()[0])
    assert check(lines, node="eu-1").intact
    stand_in = check(lines, node="us-1")
    assert stand_in.flaw is not None
    assert (stand_in.flaw.what, stand_in.flaw.seq) == ("node", 1)
    head = unlinked(lines[-1][:-1]).head
    foreign, _ = linked({"kind": "call", "node": "us-1"}, head)
    verdict = check([*lines, foreign + b"\n"])
    assert verdict.flaw is not None
    assert (verdict.flaw.what, verdict.flaw.seq) == ("node", len(lines) + 1)
    begun, _ = linked({"kind": "system", "node": "us-1", "mesh": "mesh.test"}, genesis("mesh.test", "eu-1"))
    assert (moved := check([begun + b"\n"]).flaw) is not None
    assert moved.what == "start"


def test_the_mesh_s_ca_vouches_for_a_node_s_key_and_for_no_other_s(tmp_path: Path) -> None:
    init_ca(tmp_path / "ca", "mesh.test")
    init_ca(tmp_path / "other", "mesh.test")
    eu = issue(tmp_path / "ca", NodeId("mesh.test", "eu", "eu-1"), tmp_path / "eu")
    us = issue(tmp_path / "ca", NodeId("mesh.test", "us", "us-1"), tmp_path / "us")
    ca = TrustedKeys(authorities=eu.ca.read_bytes())
    stranger = TrustedKeys(authorities=(tmp_path / "other" / "ca.pem").read_bytes())

    def signed_by(files: Any) -> list[bytes]:
        signer = signer_of(files.key.read_bytes(), files.cert.read_bytes())
        first, head = linked({"kind": "system", "node": "eu-1", "mesh": "mesh.test", "at": now()}, START)
        facts = {
            "kind": "system",
            "node": "eu-1",
            "at": now(),
            "checkpoint": signer.checkpoint("mesh.test", "eu-1", head),
        }
        return [first + b"\n", linked(facts, head)[0] + b"\n"]

    assert check(signed_by(eu), trust=ca).signed_to == 1
    for lines, trust, why in (
        (signed_by(us), ca, "that of spiffe://mesh.test/region/us/node/us-1"),
        (signed_by(eu), stranger, "CA did not issue"),
    ):
        verdict = check(lines, trust=trust)
        assert verdict.flaw is not None
        assert verdict.flaw.what == "signature"
        assert why in verdict.flaw.text


START = genesis("mesh.test", "eu-1")


def now() -> str:
    from node.audit.entries import now_ms, rfc3339

    return rfc3339(now_ms())


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_no_line_that_is_none_of_ours_makes_the_check_itself_fail(line: bytes) -> None:
    lines = list(log()[0])
    verdict = check([*lines[:3], line + b"\n", *lines[3:]])
    assert verdict.flaw is not None
    with pytest.raises(Invalid):
        unlinked(line)
