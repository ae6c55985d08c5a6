"""What the two sides of a Forward stream tell each other before the first call: metadata of the RPC."""

from __future__ import annotations

from collections.abc import Iterable

from proto.versions import FEATURES, FEATURES_MAX, common

INSTANCE_KEY = "toolmesh-instance"
"""From the answering side: 128 random bits in hex, drawn once per process life."""

FEATURES_KEY = "toolmesh-features"
"""From both sides: words, separated by commas. Who says nothing has none."""

Metadata = Iterable[tuple[str, str | bytes]]

OURS: tuple[tuple[str, str], ...] = ((FEATURES_KEY, ",".join(sorted(FEATURES))),)


def instance_in(metadata: Metadata) -> str:
    return next((str(value) for key, value in metadata if key == INSTANCE_KEY), "")


def features_in(metadata: Metadata) -> frozenset[str]:
    """The features that both sides have."""
    said = next((value for key, value in metadata if key == FEATURES_KEY and isinstance(value, str)), "")
    return common(said.split(",", FEATURES_MAX)[:FEATURES_MAX])
