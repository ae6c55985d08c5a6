"""What others publish of themselves, or were found to do: to be read beside our figures, measured by nobody here."""

from __future__ import annotations

_MEASURED = "as measured before this project began"

ANCHORS = (
    ("memberlist", "suspicion lasts 8 s at N = 100", "its source: SuspicionMult 4 × log10(N) × ProbeInterval 1 s"),
    (
        "Consul peering",
        "a stream that fell silent is killed after 2 min",
        "its source: defaultIncomingHeartbeatTimeout",
    ),
    ("ContextForge", "a peer's new tool is never seen, by default", _MEASURED),
    ("ContextForge", "a dead peer is noticed after 169 s", _MEASURED),
    ("ContextForge", "a frozen peer is noticed after 201 s; a call in flight hung for 300 s", _MEASURED),
)
"""(who, what, whence)"""
