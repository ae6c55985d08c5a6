from __future__ import annotations

from typing import Any

import pytest

from router.signatures import prompt_signature, resource_signature, signature, slim

SCHEMA = {
    "type": "object",
    "properties": {
        "verbose": {"type": "boolean"},
        "timezone": {"type": "string", "description": "IANA name"},
    },
    "required": ["timezone"],
}


def tool(properties: Any, **schema: Any) -> dict[str, Any]:
    return {"name": "t", "inputSchema": {"type": "object", "properties": properties, **schema}}


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"name": "get_current_time", "inputSchema": SCHEMA}, "get_current_time(timezone: string, verbose?: boolean)"),
        ({"name": "t"}, "t()"),
        ({"name": "t", "inputSchema": []}, "t()"),
        (tool({"a": {"type": "array", "items": {"type": "integer"}}}), "t(a?: integer[])"),
        (tool({"a": {"enum": ["x", "y", 1]}}), 't(a?: "x"|"y"|1)'),
        (tool({"a": {"enum": list("abcdefg")}}), 't(a?: "a"|"b"|"c"|"d"|"e"|…)'),
        (tool({"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}), "t(a?: string|null)"),
        (tool({"a": {"type": ["string", "null"]}}), "t(a?: string|null)"),
        (tool({"a": {"type": "array", "items": {"enum": ["x", "y"]}}}), 't(a?: ("x"|"y")[])'),
        (tool({"a": True, "b": {}}, required=["b", 5]), "t(b: any, a?: any)"),
        (tool({"a": {"const": "only"}}), 't(a?: "only")'),
        (tool({f"p{i}": {"type": "string"} for i in range(13)}), None),
        (tool({"a\nb": {"type": "string"}}), "t(a b?: string)"),
    ],
)
def test_a_signature_says_what_a_tool_takes(definition: dict[str, Any], expected: str | None) -> None:
    text = signature(definition)
    assert text == expected if expected else text.endswith("p11?: string, …)")


def test_a_signature_is_cut_where_it_is_asked_to_be_with_required_parameters_kept_longest() -> None:
    assert signature({"name": "t", "inputSchema": SCHEMA}, 1) == "t(timezone: string, …)"
    assert signature({"name": "t"}, 0) == "t()"


def test_prompts_and_resources_are_shown_as_use_tool_gets_them() -> None:
    review = {"name": "review", "arguments": [{"name": "page", "required": True}, {"name": "depth"}, "odd"]}
    assert prompt_signature(review) == 'prompts/get(name: "review", arguments: {page, depth?})'
    assert prompt_signature({"name": "plain"}) == 'prompts/get(name: "plain")'
    assert resource_signature({"uri": "file:///a b"}) == 'resources/read(uri: "file:///a b")'
    assert resource_signature({"uriTemplate": "file:///{path}"}) == 'resources/read(uri: "file:///{path}")'


def test_a_schema_is_shown_without_what_only_programs_read_and_with_all_that_it_demands() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "makeArguments",
        "type": "object",
        "properties": {
            "title": {"title": "Title", "type": "string", "enum": ["title"]},
            "shape": {
                "anyOf": [{"$ref": "#/$defs/Shape", "title": "Shape"}, {"type": "null"}],
                "default": {"title": 1},
            },
        },
        "$defs": {
            "Shape": {"title": "Shape", "type": "object", "additionalProperties": {"title": "X", "type": "number"}}
        },
        "required": ["title"],
        "additionalProperties": False,
    }
    assert slim(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "enum": ["title"]},
            "shape": {"anyOf": [{"$ref": "#/$defs/Shape"}, {"type": "null"}], "default": {"title": 1}},
        },
        "$defs": {"Shape": {"type": "object", "additionalProperties": {"type": "number"}}},
        "required": ["title"],
    }
    assert slim([True, "odd", None]) == [True, "odd", None]
