"""Schemas of parameters and of answers, as Claude and OpenAI's `strict` want them."""

import json
from typing import Any

import msgspec
import pytest

from tokenferry.wire import Codec
from tokenferry.wire._schema import closed, is_closed
from wire.rig import chat_ask, from_gemini, from_responses, gemini_ask, responses_ask, sent, to_messages


def raw(schema: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(schema).encode())


def test_closing_changes_objects_but_neither_maps_nor_values() -> None:
    value = {"type": "object"}
    schema = {
        "type": "object",
        "properties": {
            "default": {"type": ["object", "null"], "properties": {}},
            "map": {"type": "object", "additionalProperties": {"type": "object"}},
            "any": {"enum": [value], "default": value, "anyOf": [{"type": "object"}]},
        },
    }
    found = json.loads(bytes(closed(raw(schema))))
    fields = found["properties"]
    assert found["additionalProperties"] is fields["default"]["additionalProperties"] is False
    assert fields["map"]["additionalProperties"] == {"type": "object", "additionalProperties": False}
    assert fields["any"] == {
        "enum": [value],
        "default": value,
        "anyOf": [{"type": "object", "additionalProperties": False}],
    }


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["object", "null"]}, False),
        ({"type": "object", "additionalProperties": False, "properties": {}}, True),
        ({"enum": [{"type": "object"}]}, True),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"$defs": {"enum": {"type": "object"}}}, False),
    ],
)
def test_a_schema_is_closed_if_each_of_its_objects_is(schema: dict[str, Any], expected: object) -> None:
    assert is_closed(raw(schema)) is expected


@pytest.mark.parametrize(
    ("using", "body"),
    [
        (to_messages(), chat_ask(tools=[{"type": "function", "function": {"name": "f", "parameters": None}}])),
        (to_messages(), chat_ask(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])),
        (from_responses(), responses_ask(tools=[{"type": "function", "name": "f", "parameters": {}}])),
        (from_gemini(), gemini_ask(tools=[{"functionDeclarations": [{"name": "f", "parameters": {}}]}])),
        (from_gemini(), gemini_ask(tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": None}]}])),
    ],
)
def test_a_function_without_parameters_takes_an_empty_object(using: Codec, body: bytes) -> None:
    assert sent(body, using)[0]["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
