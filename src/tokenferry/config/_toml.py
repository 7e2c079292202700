"""Parses TOML, or describes its fault in plain words."""

import codecs
import re
import tomllib
from pathlib import Path
from typing import Final

from tokenferry.errors import ConfigError
from tokenferry.secret import Fields

_PLACE: Final = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_REASONS: Final = {
    "Expected '=' after a key": "a key has no = after it",
    "Invalid value": "a value is missing, or is a text without quotes",
    "Cannot overwrite a value": "a key is set twice",
    "Duplicate inline table key": "a key is set twice",
    "Cannot declare": "a table is declared twice",
    "Cannot redefine": "a table is declared twice",
    "Cannot mutate": "a table is declared twice",
    "Expected ']'": "the name of a table has no ] after it",
    "Expected newline": "something follows a value on its line",
    "Unclosed array": "a list has no ] at its end",
    "Unclosed inline table": "a table has no } at its end",
    "Unterminated string": "a text has no quote at its end",
    'Expected "': "a text has no quote at its end",
    "Unescaped '\\'": "a backslash in double quotes begins no escape; use single quotes",
    "Escaped character": "an escape in a text names no character",
    "Invalid hex": "an escape in a text names no character",
    "Illegal character": "it holds a control character",
    "Found invalid character": "it holds a control character",
    "Invalid statement": "a line begins with neither a key nor a [table]",
    "Invalid initial character": "a key or table has no name there",
    "Invalid date": "a date or time does not exist",
}
"""The messages of Python's parser, and plainer ones for people."""


def parse(content: bytes, path: Path) -> Fields:
    """Parse a file's content. Raises `ConfigError` if it is not valid TOML."""
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path} begins with a byte order mark, which TOML has none of; save it as UTF-8 without BOM")
    try:
        return Fields(tomllib.loads(content.decode("utf-8")))
    except RecursionError:
        reason = "it is nested too deep"
    except ValueError as fault:
        reason = toml_fault(fault)
    raise ConfigError(f"{path} is not valid TOML: {reason}; correct it with: tokenferry config edit")


def toml_fault(fault: ValueError) -> str:
    """Describe the fault and its place, from the error that decoding or parsing raised."""
    if isinstance(fault, UnicodeDecodeError):
        line = fault.object.count(b"\n", 0, fault.start) + 1
        return f"line {line}: it holds a character that is not UTF-8"
    said = str(fault)
    reason = next((plain for words, plain in _REASONS.items() if said.startswith(words)), "it can't be parsed")
    place = _PLACE.search(said)
    if place is None:
        return reason
    return f"line {place['line']}, column {place['column']}: {reason}" if place["line"] else f"at its end: {reason}"
