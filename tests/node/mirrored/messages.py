"""Messages as MCP shapes them and as nobody foresaw: strategies, and equality that misses no difference."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

generated = settings(
    max_examples=int(os.environ.get("TOOLMESH_EXAMPLES", "5")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = ANY_TEXT | st.sampled_from(["Name", "NAME", "_META", "__proto__", "id", "type", "$ref", "x\u0000y", "😀", ""])
NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**40, 1.0, -0.0, 5e-324, 1.7976931348623157e308])
    | st.floats(allow_nan=False, allow_infinity=False)
)
LEAVES = st.none() | st.booleans() | NUMBERS | ANY_TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
VENDOR = st.dictionaries(NAMES.map("x-".__add__), VALUES, max_size=3)
"""Members that no revision knows, to stand beside those that it does."""
CONTENT = st.builds(
    lambda kind, more, meta: {**more, "type": kind, "_meta": meta},
    st.sampled_from(["text", "image", "hologram", "é"]),
    OBJECTS,
    OBJECTS,
)
RESULTS = st.builds(
    lambda content, structured, meta, more: {
        **more, "content": content, "structuredContent": structured, "isError": False, "_meta": meta,
    },
    st.lists(CONTENT, max_size=3), VALUES, VENDOR, VENDOR,
)  # fmt: skip
PROGRESS = st.builds(
    lambda more, meta: {"method": "notifications/progress", "params": {**more, "progress": 1, "_meta": meta}},
    VENDOR,
    VENDOR,
)
LOG = st.builds(
    lambda more, data: {"method": "notifications/message", "params": {**more, "level": "warning", "data": data}},
    VENDOR,
    VALUES,
)
QUESTIONS = st.one_of(
    st.builds(
        lambda more, content: {
            "method": "sampling/createMessage",
            "params": {**more, "messages": [{"role": "user", "content": content}], "maxTokens": 7},
        },
        VENDOR,
        CONTENT,
    ),
    st.builds(
        lambda more, message: {
            "method": "elicitation/create",
            "params": {**more, "message": message, "requestedSchema": {"type": "object", "properties": {}}},
        },
        VENDOR,
        ANY_TEXT,
    ),
    st.builds(lambda more: {"method": "roots/list", "params": more}, VENDOR),
)


def exactly(value: Any) -> Any:
    """Tells 1 from 1.0 and from True and 0.0 from -0.0, which `==` does not; the order of members says nothing."""
    if isinstance(value, dict):
        return {k: exactly(v) for k, v in value.items()}
    if isinstance(value, list):
        return [exactly(v) for v in value]
    return (type(value).__name__, repr(value) if isinstance(value, float) else value)


def same(one: Any, other: Any) -> bool:
    return bool(exactly(one) == exactly(other))
