"""Translates schemas in Gemini's subset of OpenAPI to JSON Schema.

https://ai.google.dev/api/caching#Schema
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._json import decode, encode
from tokenferry.wire.gemini._spelling import camel

_NUMBERS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
"""Counts that the vendor writes as strings, since they may have 64 bits."""
_MOST_DIGITS: Final = 19
_DROPPED: Final = frozenset(("nullable", "propertyOrdering", "property_ordering", "example"))


def json_schema(schema: msgspec.Raw) -> msgspec.Raw:
    """Give the schema as JSON Schema. Raises `Unfit` if it can't be read."""
    document = decode(schema)
    try:
        return msgspec.Raw(encode(_converted(document)))
    except RecursionError:
        raise Unfit("a schema is nested too deeply") from None


def _converted(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    found = {camel(name): _keyword(camel(name), value) for name, value in given.items() if name not in _DROPPED}
    if found.get("format") == "enum":
        del found["format"]
    if given.get("nullable") is True:
        return _nullable(found)
    return found


def _keyword(name: str, value: Any) -> Any:
    if name == "type":
        return _type(value)
    if name == "properties" and isinstance(value, dict):
        return {key: _converted(one) for key, one in value.items()}
    if name in {"items", "additionalProperties"}:
        return _converted(value)
    if name in {"anyOf", "oneOf", "allOf", "prefixItems"} and isinstance(value, list):
        return [_converted(one) for one in value]
    is_count = name in _NUMBERS and isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS
    return int(value) if is_count else value


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return [_type(one) for one in value]
    return value.lower() if isinstance(value, str) else value


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give the schema that also allows null."""
    if "anyOf" in schema or not isinstance(kind := schema.get("type"), str):
        return {"anyOf": [schema, {"type": "null"}]}
    found = {**schema, "type": [kind, "null"]}
    if isinstance(values := schema.get("enum"), list):
        found["enum"] = [*values, None]
    return found
