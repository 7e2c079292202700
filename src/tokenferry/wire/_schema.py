"""JSON schemas with closed objects, which OpenAI's `strict` and structured output of the Messages API demand.

An object is closed if `additionalProperties` is false.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._json import Unread, decode, encode

_NOTHING: Final = b"{} \t\r\n"
EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The schema of a function without parameters."""
_VALUES: Final = frozenset(("enum", "const", "default", "examples", "example"))
"""Keywords that hold values, not schemas."""
_TABLES: Final = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
"""Keywords that hold schemas by name."""


def object_schema(schema: Unread) -> msgspec.Raw:
    """Give the schema of a function's parameters. All APIs demand that of an object, but some clients send none."""
    return EMPTY_SCHEMA if schema is UNSET or bytes(schema).strip(_NOTHING) in {b"", b"null"} else schema


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
    if _is_object(schema) or "properties" in schema:
        fields, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(fields, dict) or not isinstance(required, list):
            return False
        if schema.get("additionalProperties") is not False or any(name not in required for name in fields):
            return False
    return all(_is_closed(one) for name, value in schema.items() for one in _schemas(name, value))


def _is_object(schema: dict[str, Any]) -> bool:
    kinds = schema.get("type")
    return kinds == "object" or (isinstance(kinds, list) and "object" in kinds)


def _schemas(keyword: str, value: Any) -> Iterable[Any]:
    """Give the schemas in the value of a keyword."""
    if keyword in _VALUES:
        return ()
    return value.values() if keyword in _TABLES and isinstance(value, dict) else (value,)


def closed(schema: msgspec.Raw) -> msgspec.Raw:
    """Give the schema with every object closed, but for maps, whose fields have a schema. Raises `Unfit`."""
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
    found = {name: _closed_keyword(name, value) for name, value in schema.items()}
    if _is_object(schema) and not isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = False
    return found


def _closed_keyword(keyword: str, value: Any) -> Any:
    if keyword in _VALUES:
        return value
    if keyword in _TABLES and isinstance(value, dict):
        return {name: _closed(one) for name, one in value.items()}
    return _closed(value)
