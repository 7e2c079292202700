"""Reduces JSON schemas to the keywords that Gemini accepts: it refuses a request with any other.

https://ai.google.dev/api/caching#FunctionDeclaration
"""

from functools import lru_cache
from typing import Any, Final

import msgspec

from tokenferry.errors import Unfit
from tokenferry.wire._json import decode, encode

ALLOWED: Final = frozenset(
    (
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems"),
        *("minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties"),
        *("required", "propertyOrdering"),
    )
)
"""The keywords that Gemini accepts."""
_TAKEN: Final = ALLOWED - {"$ref"}
_LISTS: Final = ("anyOf", "oneOf", "prefixItems")
_TABLES: Final = ("properties", "$defs")
_ANNOTATIONS: Final = frozenset(("title", "description", "$id", "$anchor", "$defs"))
_ANYTHING: Final[dict[str, Any]] = {}
_LONGEST_CACHED: Final = 64 * 1024
_MOST_MERGED: Final = 64
"""The most parts of `allOf` that are merged in one schema; each may refer to others."""


def allowed_schema(schema: msgspec.Raw) -> msgspec.Raw:
    """Give the schema as Gemini accepts it. Other constraints are left out, so it may allow more. Raises `Unfit`."""
    text = bytes(schema)
    return _cached(text) if len(text) <= _LONGEST_CACHED else _translated(text)


def _translated(text: bytes) -> msgspec.Raw:
    document = decode(text)
    try:
        return msgspec.Raw(encode(_Translation(document).schema(document)))
    except RecursionError:
        raise Unfit("a schema is nested too deeply") from None


_cached: Final = lru_cache(maxsize=512)(_translated)
"""Clients send the same tools with each request."""


class _Translation:
    """Translates one document. Its parts may refer to its definitions."""

    def __init__(self, document: Any) -> None:
        known = document if isinstance(document, dict) else {}
        self._definitions = {
            f"#/{group}/{name}": schema
            for group in ("$defs", "definitions")
            if isinstance(known.get(group), dict)
            for name, schema in known[group].items()
        }
        self._merged = 0

    def schema(self, given: Any) -> dict[str, Any]:
        """Give a schema with only allowed keywords; `true`, or what is not a schema, allows anything."""
        if not isinstance(given, dict):
            return _ANYTHING
        if "allOf" in given:
            given = self._merge(given)
        if isinstance(reference := given.get("$ref"), str):
            return self._reference(reference, given)
        found = {name: self._keyword(name, value) for name, value in given.items() if name in _TAKEN}
        if "const" in given:
            found.setdefault("enum", [given["const"]])
        if isinstance(definitions := given.get("definitions"), dict):
            found["$defs"] = {**self._keyword("$defs", definitions), **found.get("$defs", {})}
        return _by_type({name: value for name, value in found.items() if name not in _LISTS or value})

    def _keyword(self, name: str, value: Any) -> Any:
        """Give the value of a keyword."""
        if name in _TABLES:
            return {key: self.schema(one) for key, one in _table(value).items()}
        if name in _LISTS:
            return [self.schema(one) for one in value] if isinstance(value, list) else []
        is_schema = name == "items" or (name == "additionalProperties" and not isinstance(value, bool))
        return self.schema(value) if is_schema else value

    def _reference(self, reference: str, given: dict[str, Any]) -> dict[str, Any]:
        """Give a reference, which must stand alone; an unknown one allows anything."""
        if reference not in self._definitions:
            return {name: value for name, value in given.items() if name == "description"}
        definitions = {**_table(given.get("definitions")), **_table(given.get("$defs"))}
        found: dict[str, Any] = {"$ref": reference.replace("#/definitions/", "#/$defs/", 1)}
        if definitions:
            found["$defs"] = {key: self.schema(one) for key, one in definitions.items()}
        return found

    def _merge(self, given: dict[str, Any]) -> dict[str, Any]:
        """Give a schema merged with the parts of its `allOf`."""
        parts = given["allOf"] if isinstance(given["allOf"], list) else []
        merged = {name: value for name, value in given.items() if name != "allOf"}
        if len(parts) == 1 and isinstance(parts[0], dict) and not merged.keys() - _ANNOTATIONS - {"definitions"}:
            return {**parts[0], **merged}
        for part in parts:
            self._merged += 1
            if self._merged > _MOST_MERGED:
                raise Unfit(f"a schema has more than {_MOST_MERGED} parts in allOf")
            known = self._definitions.get(part["$ref"], part) if isinstance(part, dict) and "$ref" in part else part
            if isinstance(known, dict):
                _add(merged, self._merge(known) if "allOf" in known else known)
        return merged


def _add(merged: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        if name in {"properties", "$defs", "definitions"}:
            merged[name] = {**_table(value), **_table(merged.get(name))}
        elif name == "required" and isinstance(value, list) and isinstance(merged.get(name), list):
            merged[name] = [*merged[name], *(one for one in value if one not in merged[name])]
        else:
            merged.setdefault(name, value)


def _by_type(found: dict[str, Any]) -> dict[str, Any]:
    """Give the schema with one type, and `items` for an array."""
    kinds = found.get("type")
    if isinstance(kinds, list):
        names = [one for one in kinds if isinstance(one, str)]
        if len(names) != 1:
            return _one_of(found, names)
        found["type"] = kinds = names[0]
    if kinds == "array" and "items" not in found and "prefixItems" not in found:
        found["items"] = _ANYTHING
    return found


def _one_of(found: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Give the schema of a value with several types, as `anyOf` of one schema per type."""
    said = {name: value for name, value in found.items() if name in _ANNOTATIONS}
    if not names:
        return {name: value for name, value in found.items() if name != "type"}
    rest = {name: value for name, value in found.items() if name not in _ANNOTATIONS}
    if isinstance(enum := rest.get("enum"), list):
        rest["enum"] = [one for one in enum if one is not None]
    kinds = [{"type": "null"} if name == "null" else _by_type({**rest, "type": name}) for name in names]
    return {**said, "anyOf": kinds}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
