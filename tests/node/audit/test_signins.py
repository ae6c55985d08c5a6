"""Refused sign-ins leave a trace, and no more than a trace."""

from __future__ import annotations

import pytest

from node.audit.entries import SigninEntry
from node.audit.port import NoAudit
from node.audit.signins import ADDRESSES_MAX, ELSEWHERE, TOLD_MAX, WINDOW_MS, AuditedAuthenticator, Signins, scheme_of
from node.guard.open import OpenAuthenticator
from node.identity.choose import authenticator_of
from node.ports import Credentials
from node.settings.auth import AuthSection
from proto.errors import ScopeRequired, Unauthenticated
from proto.records import Principal


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def test_the_first_of_an_address_are_told_one_by_one_and_the_rest_counted() -> None:
    told: list[SigninEntry] = []
    clock = Clock()
    signins = Signins(told.append, clock)
    for n in range(1_000):
        signins.refused("10.0.0.9", "bearer", f"no {n}")
    assert [e.reason for e in told] == [f"no {n}" for n in range(TOLD_MAX)]
    clock.ms += WINDOW_MS
    signins.refused("10.0.0.7", "key", "no")
    (counted,) = [e for e in told if e.refusals > 1]
    assert (counted.address, counted.refusals, counted.reason) == ("10.0.0.9", 1_000 - TOLD_MAX, "no 999")
    assert counted.facts(None)["counted"]["since"] < counted.facts(None)["at"]
    assert told[-1].address == "10.0.0.7"


def test_what_was_counted_is_told_once_the_window_is_over_though_nobody_comes_again() -> None:
    told: list[SigninEntry] = []
    clock = Clock()
    signins = Signins(told.append, clock)
    for _ in range(TOLD_MAX + 3):
        signins.refused("10.0.0.9", "bearer", "no")
    signins.tend()
    assert len(told) == TOLD_MAX
    clock.ms += WINDOW_MS
    signins.tend()
    assert [e.refusals for e in told[TOLD_MAX:]] == [3]


def test_an_attacker_with_many_addresses_leaves_one_count_and_fills_no_table() -> None:
    told: list[SigninEntry] = []
    clock = Clock()
    signins = Signins(told.append, clock)
    for n in range(ADDRESSES_MAX + 5_000):
        signins.refused(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "bearer", "no")
    assert len(told) == ADDRESSES_MAX + TOLD_MAX
    assert repr(signins) == f"Signins({ADDRESSES_MAX + 1} addresses)"
    signins.sweep(clock.ms, all_of_them=True)
    assert (told[-1].address, told[-1].refusals) == (ELSEWHERE, 5_000 - TOLD_MAX)
    assert repr(signins) == "Signins(0 addresses)"


async def test_whoever_is_refused_by_the_node_s_authenticator_is_told_whichever_door_asked() -> None:
    told: list[tuple[str, str, str]] = []

    class Audit(NoAudit):
        def signin(self, address: str, scheme: str, reason: str) -> None:
            told.append((address, scheme, reason))

    auth = AuthSection.model_validate({"keys": [{"name": "ana", "sha256": "ab" * 32}]})
    authenticator = AuditedAuthenticator(authenticator_of(auth, "mesh.test"), Audit())
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(Credentials(bearer="wrong", peer="10.0.0.9"))
    ((address, scheme, reason),) = told
    assert (address, scheme) == ("10.0.0.9", "bearer")
    assert reason == "it is not known here"
    assert list(authenticator.principals())

    class Scoped(OpenAuthenticator):
        async def authenticate(self, credentials: Credentials) -> Principal:
            raise ScopeRequired("this needs a token with mcp", scopes=["mcp"])

    with pytest.raises(ScopeRequired):
        await AuditedAuthenticator(Scoped(), Audit()).authenticate(Credentials(bearer="token", peer="10.0.0.9"))
    assert told[1:] == [("10.0.0.9", "bearer", "this needs a token with mcp")]


@pytest.mark.parametrize(
    ("credentials", "scheme"),
    [
        (Credentials(), "none"),
        (Credentials(api_key="x"), "key"),
        (Credentials(basic="a:b"), "basic"),
        (Credentials(certificate=b"x"), "certificate"),
        (Credentials(bearer="x", certificate=b"x"), "bearer"),
    ],
)
def test_what_was_presented_is_told_in_one_word(credentials: Credentials, scheme: str) -> None:
    assert scheme_of(credentials) == scheme
