"""What a worker and its measurer agree on."""

from __future__ import annotations

MESH = "bench.toolmesh"
CHANGE = "bench/c"
"""Ids of tools whose arrival is noted begin so."""
