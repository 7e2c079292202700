"""JSON schemas with closed objects, which OpenAI's `strict` and structured output of the Messages API demand.

An object is closed if `additionalProperties` is false.
"""

from typing import Any, Final

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._json import decode, encode

EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a function without parameters."""


def is_closed(schema: msgspec.Raw) -> bool:
    """Whether every object of a schema is closed and requires all of its fields."""
    try:
        return _is_closed(msgspec.json.decode(schema))
    except (ValueError, RecursionError):
        return False


def _is_closed(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        fields, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(fields, dict) or not isinstance(required, list):
            return False
        if schema.get("additionalProperties") is not False or any(name not in required for name in fields):
            return False
    return all(map(_is_closed, schema.values()))


def closed(schema: msgspec.Raw) -> msgspec.Raw:
    """Give the schema with every object closed. Raises `Unfit`."""
    document = decode(bytes(schema))
    try:
        return msgspec.Raw(encode(_closed(document)))
    except RecursionError:
        raise Unfit("the schema of the answer is nested too deeply") from None


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(one) for name, one in schema.items()}
    if schema.get("type") == "object":
        found["additionalProperties"] = False
    return found
