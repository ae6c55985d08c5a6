"""What bodies and reasons hold of secrets never gets into a record, however it is wrapped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.audit.entries import reason, target
from node.audit.masking import MASKED, NAMES, Mask, parse_path, scrub
from proto import jsons
from proto.errors import Invalid

MARKER = "xMARKERx"
SECRETS = st.sampled_from(
    ["password", "Password", "user_password", "accessToken", "refresh_token", "client_secret", "Authorization",
     "proxy-authorization", "X-API-Key", "api_key", "apiKey", "private_key", "Set-Cookie", "key", "pin", "OTP", "cvv",
     "credentials", "passphrase"]
)  # fmt: skip
PLAIN = st.sampled_from(["name", "to", "arguments", "items", "text", "keyboard", "monkey"])


@st.composite
def wrapped(draw: st.DrawFn) -> Any:
    """A secret under a name that is masked, anywhere in a value."""
    value: Any = {draw(SECRETS): draw(st.sampled_from([MARKER, [MARKER], {"x": MARKER}, {"x": [{"y": MARKER}]}]))}
    for _ in range(draw(st.integers(0, 5))):
        how = draw(st.integers(0, 3))
        if how == 0:
            value = {draw(PLAIN): value, "before": 1}
        elif how == 1:
            value = [1, value, "after"]
        elif how == 2:
            # As tools often answer: JSON in a text.
            value = {"type": "text", "text": jsons.dumps(value).decode()}
        else:
            value = {"n": None, draw(PLAIN): [value]}
    return value


@given(wrapped(), st.sampled_from([80, 500, 4_000]))
@settings(max_examples=100, deadline=None)
def test_a_secret_by_its_name_is_in_no_body_however_deep(value: Any, most: int) -> None:
    text = Mask().body(value, "params", most)
    assert MARKER not in text
    assert len(text) <= most


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=30,
)


@given(VALUES, st.integers(64, 400))
@settings(max_examples=100, deadline=None)
def test_a_body_is_never_longer_than_it_may_be_and_never_fails(value: Any, most: int) -> None:
    try:
        jsons.dumps(value)
    except Invalid:
        return
    assert len(Mask(["$.params[*].x"]).body(value, "params", most)) <= most


def test_work_on_a_body_is_bounded_by_what_is_kept_of_it() -> None:
    looked = 0

    class Counting(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looked
            for item in super().items():
                looked += 1
                yield item

    Mask().body(Counting({f"name-{n}": "x" * 10 for n in range(100_000)}), "params", 1_000)
    assert looked < 200


@pytest.mark.parametrize(
    ("rule", "gone"),
    [("$.params.arguments.note", ["note"]), ("$.params.arguments.*", ["note", "list0", "list1"]),
     ("$.params.arguments.list[1]", ["list1"]), ("$.params.arguments.list[*]", ["list0", "list1"]),
     ("$.params", ["note", "list0", "list1"]), ("$.answer.arguments.note", []), ("*OTE", ["note"]),
     ("l?st", ["list0", "list1"])],
)  # fmt: skip
def test_a_rule_masks_what_it_names_and_nothing_else(rule: str, gone: list[str]) -> None:
    value = {"name": "kept", "arguments": {"note": "is-note", "list": ["is-list0", "is-list1"]}}
    text = Mask([rule]).body(value, "params", 1_000)
    assert [name for name in ("note", "list0", "list1") if f"is-{name}" not in text] == gone
    assert ("kept" in text) == (rule != "$.params")


@pytest.mark.parametrize("text", ["$", "params", "$.", "$.a[x]", "$.a[", "$..a", "$[", "$.a b[-1]"])
def test_what_is_no_path_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match="is not a path"):
        parse_path(text)


LEAKS = [
    "Authorization: Bearer xMARKERx.abc.def",
    "basic eE1BUktFUnh4TUFSS0VSeA==",
    "token eyJxMARKERx.eyJxMARKERx.xMARKERx",
    "the key tm_ana_xMARKERx0123456789 is not known",
    "cannot dial https://user:xMARKERx@host/path",
    "password=xMARKERx",
    'refused: {"client_secret": "xMARKERx"}',
    "-----BEGIN EC PRIVATE KEY-----\nxMARKERx\n-----END EC PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nxMARKERx",
    "api_key: xMARKERx, region: eu",
]


@pytest.mark.parametrize("text", LEAKS)
def test_what_looks_like_a_secret_is_in_no_reason(text: str) -> None:
    assert MARKER not in reason(text)
    assert "eE1BUktFUnh4TUFSS0VSeA" not in reason(text)
    assert MASKED in reason(text)


@given(st.text(alphabet="abc =:/@-_tokenpasswd.BEGIN", max_size=3_000))
@settings(max_examples=25, deadline=None)
def test_scrubbing_takes_no_more_than_its_text_deserves(text: str) -> None:
    scrub(text)
    scrub("password" * 2_000 + text)
    scrub("a://" + "b" * 3_000 + ":" + text)


def test_a_uri_is_on_record_without_its_credentials_and_its_query() -> None:
    assert target("https://ana:xMARKERx@files.example.org/a/b?token=xMARKERx") == "https://files.example.org/a/b?…"
    assert target("file:///etc/hosts") == "file:///etc/hosts"
    assert target("convert_unit") == "convert_unit"


def test_the_names_that_are_always_masked_are_those_that_are_documented() -> None:
    assert {"*password*", "*token*", "*secret*", "authorization", "cookie", "key", "pin"} <= set(NAMES)
