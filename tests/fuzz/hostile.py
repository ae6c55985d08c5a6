"""What outsiders may write, as Hypothesis draws it, and what must hold of whatever reads it.

`FUZZ=n` draws n examples for each reader; without it a few dozen, which take seconds in all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from proto.errors import Fault, MeshError

EXAMPLES = int(os.environ.get("FUZZ", "30"))
CPU_S_MAX = 1.0
"""Of one reading of a few kilobytes: a hundred times what any takes. Beyond it something grows with the square."""

MESSAGE_CHARS_MAX = 40_000
"""Longer than the longest text that may be quoted: a policy."""

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

TEXT = st.text(max_size=60)
"""Every code point that UTF-8 can carry, lone surrogates as well."""
ODD = st.sampled_from(
    ["", " ", "\x00", "\r\n", "\u202e", "\ud800", "\uffff", "a" * 5_000, "[" * 5_000, "../..", "%00", "${x}", "'; --",
     "9" * 400, "-1", "1e400", "NaN", "null", "\U0001f600" * 200, "a" * 63 + "." + "b" * 70, "=" * 300, "," * 3_000,
     '"' * 999, "\\" * 999]
)  # fmt: skip
WORDS = TEXT | ODD
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
BYTES = st.binary(max_size=200)


def like(*valid: str) -> st.SearchStrategy[str]:
    """One of these with pieces changed, cut, doubled or put in: what passes the first checks and fails the later."""
    return st.tuples(
        st.sampled_from(valid), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), WORDS), max_size=4)
    ).map(_edited)


def _edited(drawn: tuple[str, list[tuple[int, int, str]]]) -> str:
    text, edits = drawn
    for at, cut, put in edits:
        at %= len(text) + 1
        text = text[:at] + put + text[at + cut :]
    return text


def broken(*valid: bytes) -> st.SearchStrategy[bytes]:
    """The same with bytes."""

    def edit(drawn: tuple[bytes, list[tuple[int, int, bytes]]]) -> bytes:
        data, edits = drawn
        for at, cut, put in edits:
            at %= len(data) + 1
            data = data[:at] + put + data[at + cut :]
        return data

    edits = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 8), st.binary(max_size=8)), max_size=5)
    return st.tuples(st.sampled_from(valid), edits).map(edit)


def document(**members: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A JSON object with these members as they should be, or left out, or anything else."""
    drawn = {name: st.just(value) | JSON for name, value in members.items()}
    return st.fixed_dictionaries({}, optional=drawn)


def survives(read: Callable[[], Any]) -> Any:
    """What it says; None if it says no in a way of ours. Anything else that it raises is a finding."""
    said, refusal = None, None
    begun = time.process_time()
    try:
        said = read()
    except MeshError as error:
        refusal = error
    assert time.process_time() - begun < CPU_S_MAX
    if refusal is not None:
        # What a peer or an operator is told can be written anywhere, and says nothing of how we are made.
        assert not isinstance(refusal, Fault), refusal
        assert len(refusal.message) < MESSAGE_CHARS_MAX
        assert "Traceback" not in refusal.message
        json.dumps(refusal.data)
    return said
