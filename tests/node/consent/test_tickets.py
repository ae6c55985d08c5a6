"""Addresses to consent at must come through this node's own doors."""

from __future__ import annotations

import pytest

from node.consent.consents import START
from node.consent.tickets import TICKET_CHARS_MAX, Tickets
from node.doors.paths import is_canonical
from node.sealing import Sealer

HOLDER = ("https://login.example.org/realms/people", "acme", "f:1234-5678:somebody@example.org")


@pytest.mark.parametrize(("scopes", "kept"), [(0, 0), (14, 14), (40, 40), (64, 0)])
def test_a_ticket_of_many_scopes_is_an_address_that_the_doors_let_in(scopes: int, kept: int) -> None:
    tickets = Tickets("eu-1", Sealer.alone())
    asked = tuple(f"https://files.example.org/auth/documents.readonly{n}" for n in range(scopes))
    text, _ = tickets.make("files", HOLDER, asked)
    assert tickets.open(text).scopes == asked[:kept]
    assert is_canonical(f"{START}/{text}")
    assert is_canonical(f"{START}/{'a' * TICKET_CHARS_MAX}")
