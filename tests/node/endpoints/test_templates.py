"""Which URIs come from which templates (RFC 6570), and that no template takes long about it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.endpoints.templates import PARTS_MAX, URI_MAX, template


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("file:///{path}", "file:///a.txt"),
        ("file:///{path}", "file:///"),
        ("file:///{+path}", "file:///a/b/c?d"),
        ("note://{id}/{part}", "note://7/head"),
        ("map:{x,y}", "map:1024,768"),
        ("page{#section}", "page#top/left"),
        ("page{#section}", "page"),
        ("file{.ext}", "file.tar.gz"),
        ("file{.ext}", "file"),
        ("repo{/owner,name}", "repo/ada/engine"),
        ("repo{/owner,name}/tree", "repo/ada/engine/tree"),
        ("matrix{;x,y}", "matrix;x=1;y=2"),
        ("search{?q,lang}", "search?q=a%20b&lang=en"),
        ("search?fixed=1{&q}", "search?fixed=1&q=2"),
        ("{scheme}://{host}", "demo://here"),
        # What runs shortest or longest is not always what fits.
        ("{+a}x{b}", "px/qx1"),
        ("{a}.txt", "a.txt.txt"),
        ("größe/{id}", "größe/日本"),
        # Not well formed: itself, and nothing else.
        ("odd/{id", "odd/{id"),
    ],
)
def test_a_uri_of_a_template_is_known(text: str, uri: str) -> None:
    assert template(text).matches(uri)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("file:///{path}", "file:///a/b"),
        ("file:///{path}", "http:///a"),
        ("note://{id}/{part}", "note://7"),
        ("page{#section}", "page-top"),
        ("repo{/owner,name}", "repo/ada/engine/tree"),
        ("search{?q}", "search/q"),
        ("search{?q}", "search?q=1#frag"),
        ("{a}.txt", "a.text"),
        ("odd/{id", "odd/7"),
        ("plain:uri", "plain:uri2"),
        ("a:{b}", "a:" + "x" * URI_MAX),
    ],
)
def test_a_uri_of_no_template_is_refused(text: str, uri: str) -> None:
    assert not template(text).matches(uri)


def test_the_template_that_fixes_more_says_more() -> None:
    assert template("note://archive/{id}").literal > template("note://{box}/{id}").literal
    assert template("a{b}c{?d}").literal == 2


def test_a_template_of_too_many_parts_matches_itself_alone() -> None:
    text = "{a}-" * PARTS_MAX
    assert template(text).matches(text)
    assert not template(text).matches("b-" * PARTS_MAX)


def test_a_template_made_to_take_long_takes_no_longer_than_others() -> None:
    # A backtracking matcher would not end: 60 adjacent runs, and no end that fits.
    assert not template("a:" + "{x}" * 60 + "!").matches("a:" + "x" * 8_000)
    assert not template("a:" + "{.x}" * 60 + "!").matches("a:" + "." * 8_000)


@given(st.lists(st.text(st.characters(exclude_characters="/?#{}", exclude_categories=("Cs",))), max_size=5))
def test_what_a_template_expands_to_it_matches(values: list[str]) -> None:
    text = "t:" + "/".join(f"{{v{i}}}" for i in range(len(values)))
    assert template(text).matches("t:" + "/".join(values))


@given(st.text("ab/{}+?,", max_size=12), st.text("ab/?", max_size=8))
def test_matching_agrees_with_a_regular_expression(text: str, uri: str) -> None:
    simple = re.fullmatch(r"(?:[^{}]|\{\+?[ab]*\})*", text)
    if simple is None:
        return
    pattern = "".join(
        ".*" if part.startswith("{+") else "[^/?#]*" if part.startswith("{") else re.escape(part)
        for part in re.findall(r"\{[^{}]*\}|[^{}]", text)
    )
    assert template(text).matches(uri) == (uri == text or re.fullmatch(pattern, uri) is not None)
