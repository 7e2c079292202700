"""The declaration of a key of config.toml, beside the type of the field that it sets."""

import re
from collections.abc import Mapping
from functools import cache
from json import dumps
from math import isfinite
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct, field
from msgspec.structs import fields, replace

__all__ = ["DURATION_PATTERN", "ConfigKey", "KeyKind", "format_duration", "keys_of", "parse_duration"]

KeyKind: TypeAlias = Literal[
    "text", "choice", "flag", "number", "whole", "duration", "path", "url", "pattern", "texts", "strings", "ignored"
]

DURATION_PATTERN: Final = r"^([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d|w|)$"
_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_WEEK: Final = 604_800.0
_KINDS: Final[Mapping[object, KeyKind]] = MappingProxyType(
    {
        bool: "flag",
        int: "whole",
        float: "number",
        str: "text",
        Path: "path",
        tuple[str, ...]: "texts",
        tuple[tuple[str, str], ...]: "strings",
    }
)


class ConfigKey(Struct, frozen=True):
    """A key, declared in `Annotated` beside the type of a field. `keys_of` adds name, kind and default.

    `least` and `most` limit a number, or a duration in seconds.
    """

    sentence: str
    """Its description, for `config init`, the schema and the documentation."""
    least: float = 0.0
    most: float = float("inf")
    kind: KeyKind = "text"
    """Declared only if the type does not imply it: duration, url, pattern."""
    example: str | None = None
    """TOML that is shown if there is no default."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of choices in other programs and in earlier versions."""
    choices: tuple[str, ...] = ()
    name: str = ""
    default: Any = None
    is_optional: bool = False
    """Whether it may be left empty."""

    @property
    def toml_default(self) -> str:
        """The default as TOML, or the example."""
        value = self.toml_value(self.default)
        return self.example or ("{}" if value == {} else dumps("" if value is None else value, ensure_ascii=False))

    def toml_value(self, value: Any) -> Any:
        """Give the value in the form of the file; None for none."""
        if self.kind == "duration" and value is not None:
            return format_duration(value)
        if self.kind == "strings" and value is not None:
            return dict(value)
        if isinstance(value, tuple):
            return list(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return str(value) if isinstance(value, Path) else value


@cache
def keys_of(section: type) -> Mapping[str, ConfigKey]:
    """Give the keys of a class of settings, by name."""
    found: dict[str, ConfigKey] = {}
    for one in fields(section):
        key = next((each for each in getattr(one.type, "__metadata__", ()) if isinstance(each, ConfigKey)), None)
        if key is not None:
            default = None if one.default is NODEFAULT else one.default
            found[one.name] = _completed(key, one.name, one.type.__origin__, default)
    return MappingProxyType(found)


def _completed(key: ConfigKey, name: str, declared: Any, default: Any) -> ConfigKey:
    """Complete a key by the field's type and default."""
    options = get_args(declared) if get_origin(declared) in {Union, UnionType} else (declared,)
    (inner,) = [one for one in options if one is not type(None)]
    is_choice = get_origin(inner) is Literal
    kind: KeyKind = key.kind if key.kind != "text" else "choice" if is_choice else _KINDS[inner]
    return replace(
        key,
        name=name,
        kind=kind,
        default=default,
        choices=key.choices or (get_args(inner) if is_choice else ()),
        is_optional=type(None) in options and key.example is None,
    )


def parse_duration(value: object) -> float | None:
    """Read `"30s"`, `"5m"`, `"1.5h"`, `"90d"`, `"2w"`, `"250ms"` or a number as seconds; None for other values."""
    found = re.fullmatch(DURATION_PATTERN, value) if isinstance(value, str) else None
    try:
        if found is not None:
            seconds = float(found[1]) * _UNITS.get(found[2] or "s", _WEEK)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        else:
            return None
    except OverflowError:
        return None
    return seconds if isfinite(seconds) else None


def format_duration(seconds: float) -> str:
    """Give the shortest text that `parse_duration` reads as the same number of seconds."""
    for unit, size in _UNITS.items():
        count = seconds / size
        if seconds and count == int(count) and int(count) * size == seconds:
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
