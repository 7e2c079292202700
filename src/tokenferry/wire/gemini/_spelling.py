"""Normalizes field names: protobuf's JSON also accepts `system_instruction` for `systemInstruction`."""

import re
from typing import Any, Final

_UNDERSCORE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_OPAQUE: Final = frozenset(
    ("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema", "labels")
)
"""Fields whose contents the client names."""
_LISTS: Final = frozenset(("contents", "parts", "tools", "functionDeclarations"))
"""List fields that may hold a single value without a list."""


def camel(name: str) -> str:
    """Give a field's name in camel case."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name)


def complete(document: Any) -> None:
    """Write every field of a request in camel case, and put single values of list fields into lists."""
    if isinstance(document, dict):
        spelled = _spelled(document)
        document.clear()
        document.update(spelled)


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, one in value.items():
        field = camel(name)
        known = one if field in _OPAQUE else _spelled(one)
        found[field] = [known] if field in _LISTS and isinstance(known, dict) else known
    return found
