"""Is this log what its node wrote? Reads lines in order and names the first one that is not. Pure.

What is found for certain: a record that was changed, left out, put in or moved, one of another node, and everything
that was written anew after the fact but for what follows the last signed checkpoint. What cannot be known from a log
alone: whether records after its last one have been cut off. A log ends with a stop if its node stopped in order;
otherwise the node runs still, was killed, or the end is missing. Only something remembered elsewhere tells: a head
(`SEQ:HASH`), the store's own note of how far it came, or a copy that was shipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from node.audit.chain import CHECKPOINT_RECORDS, Head, Link, genesis, unlinked
from node.audit.signing import AnyKey, Trust, key_id, key_of, signed_wrongly
from proto.errors import Invalid

LINE_BYTES_MAX = 16 * 1024 * 1024


class Line(NamedTuple):
    """`where` is for people (a file and a line number); `text` includes the line break, if there is one."""

    where: str
    text: bytes


class Flaw(NamedTuple):
    """The first record that is wrong. `seq` 0: it has no number, or none is there.

    `what` is one word: line (no record at all), hash, link, gap, order, node, checkpoint, signature, unsigned (a
    checkpoint is missing), start (what came first is missing), tail (what came last is missing), head (another record
    than the one that was remembered).
    """

    seq: int
    where: str
    what: str
    text: str


@dataclass(slots=True)
class Verdict:
    """What is known of a log. `flaw` None: nothing is wrong with what is there.

    `first` and `last` are the numbers of the records that hold together, `hash` (hexadecimal) that of the last.
    `begins`: genesis, retention (older ones were removed in order), given (after a head that the reader trusts).
    `ends`: stopped (in order), open (it may go on, or the end is missing), torn (the last line was not written whole).
    `signed_to` is the last record that a checkpoint covers, by one of `keys` (ids).
    """

    node: str = ""
    records: int = 0
    first: int = 0
    last: int = 0
    hash: str = ""
    begins: str = ""
    ends: str = ""
    signed_to: int = 0
    keys: list[str] = field(default_factory=list)
    flaw: Flaw | None = None

    @property
    def intact(self) -> bool:
        return self.flaw is None


def verify(
    lines: Iterable[Line],
    *,
    trust: Trust | None = None,
    after: Head | None = None,
    heads: Iterable[Head] = (),
    node: str = "",
    of: str = "",
) -> Verdict:
    """Lines in the order in which they were written, of one node's log or of a part of it.

    `after`: the part begins behind this record. `heads`: records that are known to have been there. `node`: whose log
    it must be, where that is known. `of`: where the lines lie ("store"), if only what was removed there may be missing.
    Never raises for what the lines hold.
    """
    reading = _Reading(trust or AnyKey(), after, [h for h in heads if h.seq], node, of)
    for line in lines:
        flaw = reading.read(line)
        if flaw is not None:
            reading.verdict.flaw = flaw
            return reading.verdict
    reading.verdict.flaw = reading.ended()
    return reading.verdict


class _Reading:
    def __init__(self, trust: Trust, after: Head | None, heads: list[Head], node: str, of: str) -> None:
        self.verdict = Verdict(node=node)
        self._trust = trust
        self._after = after
        self._heads = heads
        self._of = of
        self._head: Head | None = None
        self._unsigned = 0
        # Of a log that does not begin with its first record: what it begins after, until a record explains that.
        self._unexplained: tuple[Head, str] | None = None
        self._stopped = False
        self._torn = ""

    def read(self, line: Line) -> Flaw | None:
        if self._torn:
            return Flaw(0, self._torn, "line", "a line that was not written whole stands before others")
        if not line.text.endswith(b"\n"):
            # Only the last line can lack its break; whether it was being written or was cut nobody can tell.
            self._torn = line.where
            return None
        if len(line.text) > LINE_BYTES_MAX:
            return Flaw(0, line.where, "line", f"a line of more than {LINE_BYTES_MAX} bytes is no record")
        try:
            link = unlinked(line.text[:-1])
        except Invalid as e:
            return self._flaw(line, 0, "line", f"{self._expected()} should stand here, but {e.message}")
        flaw = self._placed(line, link) or self._whole(line, link) or self._of_node(line, link)
        if flaw is None:
            self._take(link)
            flaw = self._signed(line, link)
        return flaw

    def _expected(self) -> str:
        return f"record {self._head.seq + 1}" if self._head else "a record"

    def _flaw(self, line: Line, seq: int, what: str, text: str) -> Flaw:
        return Flaw(seq, line.where, what, text)

    def _placed(self, line: Line, link: Link) -> Flaw | None:
        """Does it follow the record before it?"""
        seq = link.seq
        if self._head is None:
            return self._begun(line, link)
        due = self._head.seq + 1
        if seq > due:
            missing = f"record {due}" if seq == due + 1 else f"records {due} to {seq - 1}"
            return self._flaw(
                line, due, "gap", f"{missing} should stand before record {seq}, and cannot be found there"
            )
        if seq < due:
            return self._flaw(line, seq, "order", f"record {seq} stands where record {due} should, after {due - 1}")
        if link.prev != self._head.hash:
            # Which of the two is not the original nobody can tell from these two alone.
            return self._flaw(
                line, seq, "link", f"record {seq} follows another record {due - 1} than the one that stands before it"
            )
        return None

    def _begun(self, line: Line, link: Link) -> Flaw | None:
        before = Head(link.seq - 1, link.prev)
        if self._after is not None:
            if before != self._after:
                text = f"the log should go on after {self._after}, but its first record follows {before}"
                return self._flaw(line, link.seq, "start", text)
            self.verdict.begins = "given"
        elif link.seq == 1:
            record = link.record
            if link.prev != genesis(str(record.get("mesh")), str(record.get("node"))).hash:
                return self._flaw(line, 1, "start", "record 1 does not begin the log of the node that it names")
            self.verdict.begins = "genesis"
        else:
            self._unexplained = before, line.where
        self.verdict.first = link.seq
        return None

    def _whole(self, line: Line, link: Link) -> Flaw | None:
        if not link.holds:
            return self._flaw(line, link.seq, "hash", f"record {link.seq} is not what its hash was taken of")
        # Several may remember the same record, not all of them rightly.
        for known in self._heads:
            if known.seq == link.seq and known.hash != link.hash:
                text = f"record {link.seq} is not the one that was remembered as {known}"
                return self._flaw(line, link.seq, "head", text)
        return None

    def _of_node(self, line: Line, link: Link) -> Flaw | None:
        node = str(link.record.get("node"))
        self.verdict.node = self.verdict.node or node
        if node != self.verdict.node:
            text = f"record {link.seq} is of node {node!r}, the log that of {self.verdict.node!r}"
            return self._flaw(line, link.seq, "node", text)
        return None

    def _take(self, link: Link) -> None:
        verdict, record = self.verdict, link.record
        self._head = link.head
        verdict.records += 1
        verdict.last, verdict.hash = link.seq, link.hash.hex()
        self._unsigned += 1
        system = record.get("kind") == "system"
        # The checkpoint that seals a stop comes after it.
        if not (system and record.get("action") == "checkpoint"):
            self._stopped = system and record.get("action") == "stop"
        retained = system and record.get("action") == "retention"
        if retained and self._unexplained and self._explains(record.get("removed"), self._unexplained[0]):
            self._unexplained = None
            verdict.begins = "retention"

    def _explains(self, removed: Any, before: Head) -> bool:
        """Does a record of retention say that what came up to `before` was to go? More may have been to go yet."""
        if not isinstance(removed, dict) or (self._of and removed.get("of") != self._of):
            return False
        seq = removed.get("seq")
        if not isinstance(seq, int) or seq < before.seq:
            return False
        return seq > before.seq or removed.get("hash") == before.hash.hex()

    def _signed(self, line: Line, link: Link) -> Flaw | None:
        checkpoint = link.record.get("checkpoint")
        if link.record.get("kind") == "system" and isinstance(checkpoint, dict):
            covered = Head(link.seq - 1, link.prev)
            if checkpoint.get("seq") != covered.seq or checkpoint.get("hash") != covered.hash.hex():
                text = f"the checkpoint in record {link.seq} is one of another log, or another place in it"
                return self._flaw(line, link.seq, "checkpoint", text)
            why = signed_wrongly(checkpoint, self.verdict.node, covered, _time(link.record), self._trust)
            if why:
                text = f"the checkpoint in record {link.seq} proves nothing: {why}"
                return self._flaw(line, link.seq, "signature", text)
            self._believed(key_id(key_of(checkpoint)), covered.seq)
        if self._unsigned > CHECKPOINT_RECORDS:
            text = f"no checkpoint was made in {CHECKPOINT_RECORDS} records up to {link.seq}, though one was due"
            return self._flaw(line, link.seq, "unsigned", text)
        return None

    def _believed(self, key: str, covered: int) -> None:
        self.verdict.signed_to = covered
        self._unsigned = 0
        if key not in self.verdict.keys:
            self.verdict.keys.append(key)

    def ended(self) -> Flaw | None:
        verdict = self.verdict
        verdict.ends = "torn" if self._torn else "stopped" if self._stopped else "open"
        if self._head is None:
            if self._heads:
                last = max(self._heads)
                return Flaw(last.seq, "", "tail", f"the log is empty, but {last} was in it")
            return None
        if self._unexplained is not None:
            before, where = self._unexplained
            text = (
                f"records 1 to {before.seq} are missing, and no record here says that they were removed in order. Of a "
                f"part of a log, name the parts before it as well, or what it follows: --after {before}"
            )
            return Flaw(before.seq, where, "start", text)
        last = max(self._heads, default=self._head)
        if last.seq > self._head.seq:
            cut = self._head.seq + 1
            missing = f"record {cut} is" if cut == last.seq else f"records {cut} to {last.seq} are"
            return Flaw(cut, "", "tail", f"{missing} missing at the end: {last} was in the log")
        return None


def _time(record: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(record.get("at"))).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
