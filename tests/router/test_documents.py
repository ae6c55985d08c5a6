from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.documents import (
    DENSE_MAX,
    DESCRIPTION_MAX,
    FIELDS,
    PARAMETERS_MAX,
    document,
    first_sentence,
    readable,
    text_digest,
)
from router.ports import ToolEntry, ToolKey

# A small alphabet with a member of each class that the code tells apart; all of Unicode takes seconds to set up.
texts = st.text(alphabet="aZ09_-./ \n\t,!。ßé获取🙂\u0000\u0301", max_size=30)
words = st.sampled_from(["properties", "items", "anyOf", "description", "required", "title"]) | texts
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("getCurrentTime", "get current time"),
        ("get_current_time", "get current time"),
        ("get-current-time", "get current time"),
        ("parseHTMLPage", "parse HTML page"),
        ("v2.search/items", "v2 search items"),
        ("", ""),
    ],
)
def test_names_become_readable_words(name: str, expected: str) -> None:
    assert readable(name) == expected


def test_a_document_holds_each_field_and_each_dense_text() -> None:
    schema = {
        "type": "object",
        "properties": {
            "cityName": {"type": "string", "description": "Where to look."},
            "options": {"type": "object", "properties": {"unit": {"description": "Celsius or not."}}},
            "days": {"type": "array", "items": {"properties": {"date": {"type": "string"}}}},
        },
    }
    entry = ToolEntry(
        ToolKey("eu-1", "open-weather", "get_forecast"),
        {"name": "get_forecast", "description": "Forecast for a city.\nCovers up to ten days.", "inputSchema": schema},
        server_title="Open Weather",
        server_description="Weather of the world.",
    )
    doc = document(entry)
    assert dict(zip(FIELDS, doc.fields, strict=True)) == {
        "name": "get forecast",
        "description": "Forecast for a city. Covers up to ten days.",
        "server": "open weather",
        "server_description": "Open Weather. Weather of the world.",
        "parameters": "city name Where to look. options unit Celsius or not. days date",
    }
    assert doc.named == "get forecast: Forecast for a city. Covers up to ten days."
    assert doc.placed == "open weather get forecast"
    assert doc.sentences == ("Forecast for a city.", "Covers up to ten days.")
    assert doc.server == "open weather: Open Weather. Weather of the world."


def test_a_title_stands_in_for_a_missing_description() -> None:
    doc = document(ToolEntry(ToolKey("n", "s", "x1"), {"name": "x1", "annotations": {"title": "Start the engine"}}))
    assert doc.named == "x1: Start the engine"
    assert doc.sentences == ()


def test_a_tool_that_says_nothing_is_known_by_its_parameters() -> None:
    schema = {"properties": {"cityName": {}, "unit": {"description": "Celsius or not."}}}
    doc = document(ToolEntry(ToolKey("n", "s", "x1"), {"name": "x1", "inputSchema": schema}))
    assert doc.named == "x1: city name, unit, Celsius or not."
    assert document(ToolEntry(ToolKey("n", "s", "x1"), {"name": "x1"})).named == "x1"


def test_abbreviations_in_names_are_found_by_either_spelling() -> None:
    doc = document(ToolEntry(ToolKey("n", "s", "list_repo_dirs"), {"name": "list_repo_dirs"}))
    assert doc.fields[0] == "list repo dirs repository directories"
    assert doc.named == "list repository directories"


def test_sections_of_a_docstring_are_about_parameters() -> None:
    text = "Move a card to another list.\n\nArgs:\n    card: which one\nReturns:\n    the card"
    doc = document(ToolEntry(ToolKey("n", "s", "move"), {"name": "move", "description": text}))
    assert doc.fields[1] == "Move a card to another list."
    assert doc.fields[4] == "Args: card: which one Returns: the card"
    assert doc.sentences == ()


def test_a_long_description_has_two_telling_sentences() -> None:
    text = "Search all mail. IMPORTANT: think first! Finds what was sent or received. Knows dates. And more of it."
    doc = document(ToolEntry(ToolKey("n", "s", "find"), {"name": "find", "description": text}))
    assert doc.sentences == ("Search all mail.", "Finds what was sent or received.")


def test_prompts_and_resources_are_documents_too() -> None:
    prompt = {
        "name": "code_review",
        "title": "Review code",
        "description": "Asks for a review.",
        "arguments": [{"name": "gitRef", "description": "What to look at."}, {"name": 3}, "odd"],
    }
    doc = document(ToolEntry(ToolKey("n", "s", "code_review", "prompt"), prompt))
    assert doc.named == "code review: Asks for a review."
    assert doc.fields[0] == "code review Review code"
    assert doc.fields[4] == "git ref What to look at."
    resource = {"uri": "file:///logs/app.log", "name": "app log", "mimeType": "text/plain"}
    doc = document(ToolEntry(ToolKey("n", "s", "app log", "resource"), resource))
    assert doc.fields[4] == "file logs app log text plain"


def test_huge_texts_are_bounded() -> None:
    schema = {"properties": {f"p{i}": {"description": "word " * 1000} for i in range(200)}}
    definition = {"name": "t", "description": "long sentence here. " * 100_000, "inputSchema": schema}
    doc = document(ToolEntry(ToolKey("n", "s", "t" * 100_000), definition, server_description="about " * 10_000))
    assert len(doc.named) <= DENSE_MAX
    assert len(doc.placed) <= DENSE_MAX
    assert len(doc.fields[1]) <= DESCRIPTION_MAX
    assert len(doc.fields[4]) <= PARAMETERS_MAX


@given(
    st.dictionaries(
        st.sampled_from(["name", "title", "description", "inputSchema", "annotations", "arguments", "uri"]), json_values
    )
)
def test_any_json_object_gives_a_document(definition: dict[str, Any]) -> None:
    doc = document(ToolEntry(ToolKey("n", "s", str(definition.get("name"))), definition))
    assert len(doc.fields) == len(FIELDS)
    for text in (doc.named, doc.placed, *doc.sentences):
        assert len(text_digest(text)) == 64


@given(json_values)
def test_any_schema_gives_a_document(schema: Any) -> None:
    properties = {"type": "object", "properties": {"a": schema, "b": {"anyOf": schema, "items": schema}}}
    document(ToolEntry(ToolKey("n", "s", "t"), {"name": "t", "inputSchema": properties}))


def test_a_lone_surrogate_does_not_reach_the_tokenizer() -> None:
    doc = document(ToolEntry(ToolKey("n", "s", "t"), {"name": "t", "description": "broken \ud800 text"}))
    assert doc.named == "t: broken ? text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Get the time. Then more.", "Get the time."),
        ("One line\nanother", "One line"),
        ("获取天气。更多。", "获取天气。"),
        ("", ""),
        ("aaaa bbbb cccc dddd", "aaaa bbbb…"),
    ],
)
def test_the_first_sentence_is_short(text: str, expected: str) -> None:
    assert first_sentence(text, 15) == expected
