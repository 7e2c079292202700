"""The tag by which a sub-agent's system prompt names its model: `<CCM-SUBAGENT-MODEL>name</CCM-SUBAGENT-MODEL>`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from tokenferry.routing._members import Member, items, locate, read_members

_LITERAL: Final = b"CCM-SUBAGENT-MODEL"  # no encoder escapes any of these
_TAG: Final = re.compile(r"<CCM-SUBAGENT-MODEL>([^<>]{1,512}?)</CCM-SUBAGENT-MODEL>")
_UNIT: Final = re.compile(rb"\\u[0-9A-Fa-f]{4}|\\.|[^\\]", re.DOTALL)
_SHORT: Final = {b"n": "\n", b"t": "\t", b"r": "\r", b"b": "\b", b"f": "\f"}
_LAST_LATIN: Final = 0xFF


@dataclass(frozen=True, slots=True)
class Tag:
    """The model it names, and where in the body this tag and any further ones are."""

    model: str
    spans: tuple[tuple[int, int], ...]


def may_hold_tag(system: msgspec.Raw) -> bool:
    """Tell whether a system prompt is worth a closer look."""
    return _LITERAL in bytes(system)


def find_tag(body: bytes, system: Member) -> Tag | None:
    """Look for it in a system prompt: a text, or a list of blocks with texts. The first one names the model."""
    found = [one for start, end in _texts(body, system) for one in _tags(body, start, end)]
    if not found:
        return None
    return Tag(found[0][0], tuple((start, end) for _, start, end in found))


def _texts(body: bytes, system: Member) -> Iterator[tuple[int, int]]:
    """Where the prompt's texts are, without their quotes."""
    opening = body[system.start]
    if opening == ord('"'):
        yield system.start + 1, system.end - 1
    elif opening == ord("["):
        for block in items(body, system.start, system.end):
            if body[block.start] == ord("{"):
                for member in locate(read_members(memoryview(body)[block.start : block.end]), body, block.start):
                    if member.name == "text" and body[member.start] == ord('"'):
                        yield member.start + 1, member.end - 1


def _tags(body: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    if body.find(_LITERAL, start, end) < 0:
        return
    units = [unit.span() for unit in _UNIT.finditer(body, start, end)]
    for tag in _TAG.finditer("".join(_character(body[first:last]) for first, last in units)):
        (first, last), name = tag.span(), tag.span(1)
        text = body[units[name[0]][0] : units[name[1] - 1][1]]
        model = msgspec.json.decode(b'"%b"' % text, type=str).strip()
        if model:
            yield model, units[first][0], units[last - 1][1]


def _character(unit: bytes) -> str:
    """One character for one unit of a JSON text; which one counts only if the tag could hold it."""
    if unit[0] != ord("\\"):
        return chr(unit[0])
    if unit[1] == ord("u"):
        code = int(unit[2:].decode(), 16)
        return chr(code) if code <= _LAST_LATIN else "?"
    return _SHORT.get(unit[1:], chr(unit[1]))
