"""The output of `config init` and `config schema`: every key, as it is declared."""

from typing import Any, Final

from tokenferry.config._sections import SECTIONS, Section
from tokenferry.config_key import DURATION_PATTERN, ConfigKey

_INTRODUCTION: Final = """\
# tokenferry's configuration. Every key is optional; take the "# " off to set one. The values are the defaults, but for
# the examples in lists and in tables of names. Durations: "30s", "5m", "90d"; a bare number is seconds.
# Don't put secrets in this file: name a variable, "$VARIABLE", or the path of a 0600 file, or add an account.
"""
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "flag": {"type": "boolean"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "texts": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "strings": {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
    "pattern": {"type": "string", "format": "regex"},
}


def template() -> str:
    """Give a configuration that sets nothing and shows every key, one a line, with its default and its meaning."""
    return "\n".join([_INTRODUCTION, *map(_lines, SECTIONS)])


def json_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of the file."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tokenferry config.toml",
    }
    root = schema | _object()
    for section in SECTIONS:
        at = root
        *above, last = section.path
        for step in above:
            at = at["properties"].setdefault(step, _object())
            at = at.get("items", at)
        table = _object() | {"description": section.sentence}
        table["properties"] = {key.name: _of_key(key) for key in section.keys}
        if last == "NAME":
            at["additionalProperties"] = table
        else:
            at["properties"][last] = {"type": "array", "items": table} if section.is_list else table
    return root


def _lines(section: Section) -> str:
    is_example = section.is_list or section.path[0] in {"providers", "accounts"}
    lines = [f"# {section.sentence}", f"# {section.header}" if is_example else section.header]
    lines += [f"# {key.name} = {key.toml_default}  # {key.sentence}{_choices(key)}" for key in section.keys]
    return "\n".join([*lines, ""])


def _choices(key: ConfigKey) -> str:
    return f" {' | '.join(key.choices)}" if key.choices else ""


def _object() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _of_key(key: ConfigKey) -> dict[str, Any]:
    schema = {"description": key.sentence, **_TYPES.get(key.kind, {"type": "string"})}
    if key.choices:
        schema["enum"] = list(key.choices)
    if key.kind == "duration":
        del schema["type"]
        schema["anyOf"] = [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}]
    if key.kind in {"whole", "number"}:
        schema |= {"minimum": key.least, "maximum": key.most}
    default = key.toml_value(key.default)
    return schema if default is None else schema | {"default": default}
