"""Finds the lines of a TOML document's values, which the standard library's parser doesn't report."""

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from tokenferry.providers import Fault

_Place: TypeAlias = tuple[str | int, ...]
_LONGEST: Final = 500
"""The most lines of one value; the lines of a longer one, and of what follows it, are not found."""


def with_lines(faults: Iterable[Fault], content: bytes) -> tuple[Fault, ...]:
    """Give the faults in the order of their lines, each with its line if that is known."""
    faults = tuple(faults)
    lines = lines_of(content) if faults else {}
    found = (replace(fault, line=line_of(fault.place, lines)) for fault in faults)
    return tuple(sorted(found, key=lambda fault: fault.line or 0))


def line_of(place: _Place, lines: Mapping[_Place, int]) -> int | None:
    """Give the line of the value at a place, or of the table around it."""
    return next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)


def lines_of(content: bytes) -> Mapping[_Place, int]:
    """Give, by place, the line (from 1) where each table and key of a valid document begins."""
    rows = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    found: dict[_Place, int] = {}
    counts: dict[_Place, int] = {}
    table: _Place = ()
    row = 0
    while row < len(rows):
        first, text = row, rows[row].strip()
        row += 1
        if not text or text.startswith("#"):
            continue
        while (data := _statement("\n".join(rows[first:row]))) is None:
            row += 1
            if row > min(len(rows), first + _LONGEST):
                return found
        if text.startswith("["):
            table = _header(data, counts)
            found.setdefault(table, first + 1)
        else:
            _note(data, table, first + 1, found)
    return found


def _statement(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:  # it goes on in the next line
        return None


def _header(data: Any, counts: dict[_Place, int]) -> _Place:
    """Give the place of the table that a header opens."""
    place: _Place = ()
    while data:
        if isinstance(data, list):
            counts[place] = counts.get(place, 0) + 1
            return (*place, counts[place] - 1)
        if place in counts:
            place = (*place, counts[place] - 1)
        ((key, data),) = data.items()
        place = (*place, key)
    return (*place, counts[place] - 1) if place in counts else place


def _note(data: Any, place: _Place, line: int, found: dict[_Place, int]) -> None:
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    for key, value in items:
        found.setdefault((*place, key), line)
        _note(value, (*place, key), line, found)
