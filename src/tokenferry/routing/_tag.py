"""The tag by which a sub-agent's system prompt names its model: `<CCM-SUBAGENT-MODEL>name</CCM-SUBAGENT-MODEL>`."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from tokenferry.routing._members import JsonMember, TooComplex, decode_text, items, locate, read_members

_MOST: Final = 200  # of a prompt that is meant there is one, and its end
_MOST_MEMBERS: Final = 50  # of a block that holds it; there are three
_LITERAL: Final = b"CCM-SUBAGENT-MODEL"  # no encoder escapes any of these
_ESCAPED_OPENING: Final = (b"\\u003c", b"\\u003C")
# In JSON each character of a text may be escaped. What stands for < or > is no part of a name.
_REST: Final = re.compile(
    rb"""
    CCM-SUBAGENT-MODEL (?: > | \\u003[eE] )
    ( (?: [^<>"\\] | \\u(?!003[cCeE])[0-9a-fA-F]{4} | \\[^u] ){1,512}+ )
    (?: < | \\u003[cC] ) (?: \\?/ | \\u002[fF] ) CCM-SUBAGENT-MODEL (?: > | \\u003[eE] )
    """,
    re.VERBOSE | re.DOTALL,
)
_WINDOW: Final = 4096


class Tag(Struct, frozen=True):
    """The model it names, and where in the body this tag and any further ones are."""

    model: str
    spans: tuple[tuple[int, int], ...]


def may_hold_tag(system: msgspec.Raw) -> bool:
    """Tell whether a system prompt is worth a closer look."""
    return _LITERAL in bytes(system)


def find_tag(body: bytes, text: bytes, systems: Sequence[JsonMember]) -> Tag | None:
    """Look for it in system prompts: each a text, or a list of blocks with texts. The first one names the model.

    `text` is the body, or stands for it where a reader of JSON refuses that. The work is in proportion to how often
    the tag's name occurs. Raises `TooComplex`.
    """
    if sum(body.count(_LITERAL, system.start, system.end) for system in systems) > _MOST:
        raise TooComplex(f"its system prompt holds {_LITERAL.decode()} more than {_MOST:,} times")
    places = [place for system in systems for place in _texts(text, system)]
    found = [one for start, end in places for one in _tags(body, start, end)]
    if not found:
        return None
    return Tag(found[0][0], tuple((start, end) for _, start, end in found))


def _texts(text: bytes, system: JsonMember) -> Iterator[tuple[int, int]]:
    """Where the prompt's texts are that may hold a tag, without their quotes."""
    opening = text[system.start]
    if opening == ord('"'):
        yield system.start + 1, system.end - 1
    elif opening == ord("["):
        for block in items(text, system.start, system.end):
            if text[block.start] == ord("{") and text.find(_LITERAL, block.start, block.end) >= 0:
                members = read_members(memoryview(text)[block.start : block.end], _MOST_MEMBERS)
                for member in locate(members, text, block.start):
                    if member.name == "text" and text[member.start] == ord('"'):
                        yield member.start + 1, member.end - 1


def _tags(body: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    at = body.find(_LITERAL, start, end)
    while at >= 0:
        first = _opening_before(body, start, at)
        match = None if first is None else _REST.match(body, at, end)
        at += len(_LITERAL)
        if first is not None and match is not None:
            at = match.end()
            model = decode_text(b'"%b"' % match[1]).strip()
            if model:
                yield model, first, at
        at = body.find(_LITERAL, at, end)


def _opening_before(body: bytes, start: int, at: int) -> int | None:
    """Where the tag begins whose name is at `at`, in the JSON text that begins at `start`."""
    if at > start and body[at - 1] == ord("<"):
        return at - 1
    first = at - len(_ESCAPED_OPENING[0])
    if first >= start and body[first:at] in _ESCAPED_OPENING and not _is_escaped(body, start, first):
        return first
    return None


def _is_escaped(body: bytes, start: int, at: int) -> bool:
    """Tell whether the character there belongs to an escape: an odd number of backslashes is before it."""
    end = at
    while end > start:
        window = body[max(start, end - _WINDOW) : end]
        rest = len(window.rstrip(b"\\"))
        end -= len(window) - rest
        if rest:
            break
    return (at - end) % 2 == 1
