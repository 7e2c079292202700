"""The spellings of one field that the vendor takes: protobuf's JSON reads `system_instruction`, too."""

import re
from typing import Any, Final

_UNDERSCORE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
_OPAQUE: Final = frozenset(
    ("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema", "labels")
)
"""Fields of the client's own names."""
_LISTS: Final = frozenset(("contents", "parts", "tools", "functionDeclarations"))
"""Fields in which one thing may stand without a list around it."""


def camel(name: str) -> str:
    """A field's name as the vendor writes it."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name)


def complete(document: Any) -> None:
    """Spell every field of a request as the vendor writes it, and put what stands alone into a list."""
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
