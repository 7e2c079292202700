"""The tag by which a sub-agent's system prompt names its model: `<CCM-SUBAGENT-MODEL>name</CCM-SUBAGENT-MODEL>`."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from tokenferry.routing._members import JsonMember, TooComplex, decode_text, items, locate, read_members

_MOST: Final = 200  # a genuine prompt has two: one tag and its end
_MOST_MEMBERS: Final = 50  # a genuine block has three
_LITERAL: Final = b"CCM-SUBAGENT-MODEL"  # no encoder escapes these characters
_ESCAPED_OPENING: Final = (b"\\u003c", b"\\u003C")
# In JSON each character may be escaped. An escaped < or > is not part of a name.
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
    """The model that a tag names, and the positions of all tags in the body."""

    model: str
    spans: tuple[tuple[int, int], ...]


def may_hold_tag(system: msgspec.Raw) -> bool:
    """Whether a system prompt contains the tag's name."""
    return _LITERAL in bytes(system)


def find_tag(body: bytes, text: bytes, systems: Sequence[JsonMember]) -> Tag | None:
    """Find the tags in system prompts, which are strings or lists of blocks. The first tag names the model.

    `text` is the body, or a valid text of the same length. The time is linear in the number of occurrences of the tag's
    name. Raises `TooComplex`.
    """
    if sum(body.count(_LITERAL, system.start, system.end) for system in systems) > _MOST:
        raise TooComplex(f"its system prompt holds {_LITERAL.decode()} more than {_MOST:,} times")
    places = [place for system in systems for place in _texts(text, system)]
    found = [one for start, end in places for one in _tags(body, start, end)]
    if not found:
        return None
    return Tag(found[0][0], tuple((start, end) for _, start, end in found))


def _texts(text: bytes, system: JsonMember) -> Iterator[tuple[int, int]]:
    """Give the positions of the prompt's texts that may contain a tag, without their quotes."""
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
    """Give the start of the tag whose name is at `at`; None if no `<` precedes it."""
    if at > start and body[at - 1] == ord("<"):
        return at - 1
    first = at - len(_ESCAPED_OPENING[0])
    if first >= start and body[first:at] in _ESCAPED_OPENING and not _is_escaped(body, start, first):
        return first
    return None


def _is_escaped(body: bytes, start: int, at: int) -> bool:
    """Whether an odd number of backslashes precedes the position."""
    end = at
    while end > start:
        window = body[max(start, end - _WINDOW) : end]
        rest = len(window.rstrip(b"\\"))
        end -= len(window) - rest
        if rest:
            break
    return (at - end) % 2 == 1
