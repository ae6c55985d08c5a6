"""Records: what is digested, what is verified, who is the same caller."""

from __future__ import annotations

import pytest

from proto import jsons
from proto.errors import Invalid
from proto.records import GOVERNANCE, MEMBERS, NOTHING_KNOWN, Kind, Principal, Record, RecordKey, Version, manifest
from tests.weighing import weighed

BODY = {"name": "read", "inputSchema": {"type": "object", "x-unknown": None}}


def test_a_record_keeps_the_member_order_and_digests_without_it() -> None:
    record = Record.of(Kind.TOOL, "files/read", BODY)
    turned = Record.of(Kind.TOOL, "files/read", dict(reversed(BODY.items())))
    assert record.body != turned.body
    assert record.digest == turned.digest == jsons.digest(BODY)
    assert record.data() == BODY


def test_a_record_whose_body_was_changed_is_refused_by_name() -> None:
    good = Record.of(Kind.TOOL, "files/read", BODY)
    forged = Record(good.kind, good.id, good.digest, good.body.replace(b"read", b"rm"))
    assert good.verify() == BODY
    with pytest.raises(Invalid, match="tool record 'files/read': its digest does not match"):
        forged.verify()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        Record(Kind.TOOL, "s/t", b"", body).verify()


def test_a_body_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(Invalid):
        Record.of(Kind.TOOL, "s/t", {"x": float("nan")})


def test_a_manifest_names_each_record_at_its_digest() -> None:
    a, b = Record.of(Kind.SERVER, "s", {}), Record.of(Kind.TOOL, "s/t", {"a": 1})
    assert manifest([a, b]) == {RecordKey(Kind.SERVER, "s"): a.digest, RecordKey(Kind.TOOL, "s/t"): b.digest}


def test_kinds_are_of_a_node_a_server_its_members_or_governance() -> None:
    assert set(Kind) == {Kind.NODE, Kind.SERVER} | MEMBERS | GOVERNANCE
    assert not MEMBERS & GOVERNANCE


def test_versions_are_ordered_by_epoch_first() -> None:
    assert NOTHING_KNOWN < Version(1, 9) < Version(2, 0) < Version(2, 1)


def test_a_caller_is_the_same_whatever_its_groups_and_scopes() -> None:
    one = Principal("ann", "https://idp", "t1", groups=("a",), scopes=("x",))
    assert one.identity == Principal("ann", "https://idp", "t1").identity
    others = [Principal("ann", "https://idp", "t2"), Principal("ann", "https://other", "t1"), Principal("bob")]
    assert all(one.identity != other.identity for other in others)


def test_a_record_is_shown_short() -> None:
    record = Record.of(Kind.TOOL, "s/t", {"secret": "value"})
    assert repr(record) == f"Record(tool s/t {record.digest.hex()[:8]})"


def test_records_hold_their_bodies_and_not_what_they_were_written_in() -> None:
    body = {"name": "read", "description": "x" * 1_000}
    records, weight = weighed(lambda: [Record.of(Kind.TOOL, "s/read", body) for _ in range(100)])
    assert weight < 100 * (len(records[0].body) + 500)
