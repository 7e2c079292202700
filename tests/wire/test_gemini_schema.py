"""Schemas for Gemini: whatever goes in, only keywords come out that it takes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import Unfit
from tokenferry.wire.gemini._schema import ALLOWED, allowed_schema


def allowed(schema: Any) -> Any:
    return json.loads(bytes(allowed_schema(msgspec.Raw(json.dumps(schema).encode()))))


def schemas_in(schema: Any) -> list[dict[str, Any]]:
    """A schema and all below it."""
    found = [schema]
    for name in ("properties", "$defs"):
        found += [one for below in schema.get(name, {}).values() for one in schemas_in(below)]
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found += schemas_in(schema[name])
    for name in ("anyOf", "oneOf", "prefixItems"):
        found += [one for below in schema.get(name, []) for one in schemas_in(below)]
    return found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$schema": "x", "type": "object", "patternProperties": {}}, {"type": "object"}),
        ({"type": "string", "minLength": 1, "pattern": "a", "default": "a"}, {"type": "string"}),
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"type": ["string"]}, {"type": "string"}),
        (
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "prefixItems": [{"const": 1}]}]},
            {"anyOf": [{"type": "string"}, {"type": "array", "prefixItems": [{"enum": [1]}]}]},
        ),
        (
            {"type": ["string", "null"], "description": "d", "enum": ["a", None]},
            {"description": "d", "anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
        ),
        ({"type": ["array", "null"]}, {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}]}),
        (
            {"type": "object", "properties": {"const": {"type": "string", "minLength": 1}}, "required": ["const"]},
            {"type": "object", "properties": {"const": {"type": "string"}}, "required": ["const"]},
        ),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
            {"properties": {"b": {}, "a": {}}, "required": ["a", "b"]},
        ),
        (
            {"$ref": "#/definitions/a", "title": "t", "definitions": {"a": {"type": "string", "maxLength": 2}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        ),
        (
            {"allOf": [{"$ref": "#/$defs/a"}], "description": "d", "$defs": {"a": {"type": "string"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        ),
        (
            {"allOf": [{"$ref": "#/$defs/a"}, {"minimum": 1}], "$defs": {"a": {"type": "integer"}}},
            {"$defs": {"a": {"type": "integer"}}, "type": "integer", "minimum": 1},
        ),
        ({"properties": {"a": {"$ref": "elsewhere", "description": "d"}}}, {"properties": {"a": {"description": "d"}}}),
        ({"additionalProperties": False, "anyOf": []}, {"additionalProperties": False}),
    ],
)
def test_a_schema_says_the_same_in_the_words_that_are_taken(schema: Any, expected: Any) -> None:
    assert allowed(schema) == expected


def test_what_can_only_be_an_attack_is_unfit() -> None:
    deep = b'{"items":' * 100_000 + b"{}" + b"}" * 100_000
    wide = {"allOf": [{"$ref": "#/$defs/a"}] * 70, "$defs": {"a": {"type": "string"}}}
    loop = {"allOf": [{"$ref": "#/$defs/a"}, {}], "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {}]}}}
    for one in (deep, json.dumps(wide).encode(), json.dumps(loop).encode()):
        with pytest.raises(Unfit):
            allowed_schema(msgspec.Raw(one))


KEYWORDS = st.sampled_from(
    [*sorted(ALLOWED), *("$schema", "const", "allOf", "not", "if", "default", "minLength", "definitions", "examples")]
)
TYPES = st.sampled_from(["object", "array", ["string", "null"], []])
SCHEMAS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.just("#/$defs/a"), st.just({"type": "array"})),
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.one_of(KEYWORDS, st.just("a")), below, max_size=4),
        st.fixed_dictionaries({"type": TYPES, "properties": below}),
    ),
    max_leaves=20,
)


@given(SCHEMAS)
@settings(max_examples=effort(500), deadline=None)
def test_whatever_the_schema_only_allowed_keywords_come_out(schema: Any) -> None:
    """Clients' tools have whatever their authors wrote (vibeproxy#338, OmniRoute#12871, claudish#234)."""
    try:
        found = schemas_in(allowed(schema))
    except Unfit:
        return
    for one in found:
        assert one.keys() <= ALLOWED
        assert not isinstance(one.get("type"), list)
        if "$ref" in one:
            assert all(name.startswith("$") for name in one)
        if one.get("type") == "array":
            assert "items" in one or "prefixItems" in one
