"""Sealed values: opened by whoever holds the key, for their purpose and time, and by nobody otherwise."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.sealing import KEY_BYTES_MIN, LEEWAY_S, PREFIX, Sealer
from proto.errors import Invalid

KEY, OTHER = b"k" * KEY_BYTES_MIN, b"o" * KEY_BYTES_MIN
VALUE: dict[str, Any] = {"node": "eu-1", "server": "ask", "n": [1, None, "\U0001f512"]}
SEALED = Sealer([KEY]).seal("state", VALUE)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5, alphabet="abc"), inner, max_size=3),
    max_leaves=8,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@given(st.dictionaries(st.text(max_size=5, alphabet="vxyz"), values, max_size=4))
def test_what_was_sealed_is_opened_by_every_holder_of_the_key(value: dict[str, Any]) -> None:
    text = Sealer([KEY]).seal("state", value)
    assert text.isascii()
    assert not text.split()[1:]
    assert Sealer([KEY]).open("state", text) == value


@given(st.integers(0, len(SEALED) - 1), st.characters())
def test_a_changed_character_is_refused(at: int, put: str) -> None:
    changed = SEALED[:at] + put + SEALED[at + 1 :]
    if changed != SEALED:
        with pytest.raises(Invalid):
            Sealer([KEY]).open("state", changed)


RAW = base64.urlsafe_b64decode(SEALED[len(PREFIX) :] + "=" * (-len(SEALED[len(PREFIX) :]) % 4))


@given(st.integers(0, len(RAW) * 8 - 1))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    raw = bytearray(RAW)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Invalid):
        Sealer([KEY]).open("state", PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(st.text())
def test_whatever_else_comes_is_refused(text: str) -> None:
    for candidate in (text, PREFIX + text):
        with pytest.raises(Invalid):
            Sealer([KEY]).open("state", candidate)


@given(st.integers(0, len(SEALED) - 1))
def test_a_part_of_a_token_is_refused(length: int) -> None:
    with pytest.raises(Invalid):
        Sealer([KEY]).open("state", SEALED[:length])


def test_a_token_opens_for_its_own_purpose_only() -> None:
    with pytest.raises(Invalid):
        Sealer([KEY]).open("session", SEALED)


def test_another_meshs_token_is_refused() -> None:
    with pytest.raises(Invalid):
        Sealer([OTHER]).open("state", SEALED)
    with pytest.raises(Invalid):
        Sealer.alone().open("state", Sealer.alone().seal("state", VALUE))


def test_the_first_key_seals_and_all_open() -> None:
    rotating = Sealer([OTHER, KEY])
    assert rotating.open("state", SEALED) == VALUE
    assert Sealer([OTHER]).open("state", rotating.seal("state", VALUE)) == VALUE
    with pytest.raises(Invalid):
        Sealer([KEY]).open("state", rotating.seal("state", VALUE))


def test_two_tokens_of_one_value_differ() -> None:
    assert Sealer([KEY]).seal("state", VALUE) != SEALED


def test_a_token_opens_until_its_time_is_over_and_a_little_longer() -> None:
    clock = Clock()
    sealer = Sealer([KEY], clock=clock)
    text = sealer.seal("state", VALUE, 60.0)
    clock.now_s += 60 + LEEWAY_S
    assert sealer.open("state", text) == VALUE
    clock.now_s += 0.1
    with pytest.raises(Invalid) as e:
        sealer.open("state", text)
    assert e.value.data["expired"]


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"short"]])
def test_a_short_key_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(Invalid, match="32 random bytes"):
        Sealer(keys)


def test_its_repr_shows_no_key() -> None:
    assert "kkk" not in repr(Sealer([KEY]))
