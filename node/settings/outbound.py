"""What this node may dial besides public addresses when somebody else chose the address: `outbound`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from node.outbound.allowed import Allowed
from node.settings.values import Section
from proto.errors import Invalid


def _allowed(value: str) -> str:
    try:
        Allowed.of((value,))
    except Invalid as e:
        raise ValueError(e.message) from None
    return value


class OutboundSection(Section):
    """`allow`: networks (CIDR), addresses and hosts, `*.` for subdomains, `:PORT` for one port."""

    allow: tuple[Annotated[str, AfterValidator(_allowed)], ...] = Field(default=(), max_length=1_000)
