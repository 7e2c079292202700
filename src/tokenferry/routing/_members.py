"""Finds the positions of a JSON object's members in its text. Duplicate keys are preserved.

Bodies may be hostile: the time is linear in the length of the text, and the memory is limited.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from tokenferry.errors import UsageError

MOST_COMMAS: Final = 500_000
"""The most commas in an array. They bound the number of items, and counting them needs no memory."""

_MOST_MEMBERS: Final = 1000  # of an object or an array; a request has some twenty
_LONGEST_KEY: Final = 1024
_SPACE: Final = b" \t\r\n"
_NAME: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_KEY: Final = re.compile(
    rb'[ \t\r\n,{]{0,64}"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}(?![ \t\r\n])', re.DOTALL
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_WINDOW: Final = 4096
_text: Final = msgspec.json.Decoder(str)


class TooComplex(UsageError):  # noqa: N818  # named like the other errors
    """A body exceeds a limit of the scanner."""

    def __init__(self, excess: str) -> None:
        super().__init__(f"the request's body is too complex: {excess}; send less")


class Key:
    """A key with decoded escapes. It equals only itself, so that a dict preserves duplicate keys."""

    __slots__ = ("name",)

    name: str


class JsonMember(NamedTuple):
    """A member of an object, or an item of an array with an empty `name`. Its value is `text[start:end]`."""

    name: str
    start: int
    end: int


class _Keys:
    """Makes keys, at most as many as an object may have: a body could hold millions."""

    def __init__(self) -> None:
        self.left = self.most = 0

    def __call__(self, _kind: type, name: Any) -> Key:
        self.left -= 1
        if self.left < 0:
            raise TooComplex(f"an object in it has more than {self.most:,} members")
        if len(name) > _LONGEST_KEY:
            raise TooComplex(f"a name in it is longer than {_LONGEST_KEY} characters")
        key = _new_key(Key)  # faster than a constructor
        key.name = name
        return key


_new_key: Final = object.__new__
_keys: Final = _Keys()
_object: Final = msgspec.json.Decoder(dict[Key, msgspec.Raw], dec_hook=_keys)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_members(text: bytes | memoryview, most: int = _MOST_MEMBERS) -> Mapping[Key, msgspec.Raw]:
    """Read at most `most` members of the object in `text`, and validate the whole text.

    Raises `msgspec.MsgspecError`, `UnicodeDecodeError` (in a key), `RecursionError` and `TooComplex`.
    """
    _keys.left = _keys.most = most
    return _object.decode(text)


def locate(members: Mapping[Key, msgspec.Raw], text: bytes, start: int = 0) -> Iterator[JsonMember]:
    """Give the position of each member in the text. The object begins at `start`."""
    for key, raw in members.items():
        begin = _value_after(text, start)
        start = begin + len(raw)
        yield JsonMember(key.name, begin, start)


def place_of(number: int, members: Mapping[Key, msgspec.Raw], text: bytes) -> tuple[int, int]:
    """Give the position of the value of a member by its number (from 1), without reading further ones."""
    end = begin = 0
    for raw in members.values():
        begin = _value_after(text, end)
        end = begin + len(raw)
        number -= 1
        if not number:
            break
    return begin, end


def items(text: bytes, start: int, end: int) -> Iterator[JsonMember]:
    """Give the items of the valid array `text[start:end]`. Raises `TooComplex`."""
    if text.count(b",", start, end) > MOST_COMMAS:
        raise TooComplex(f"an array in it has more than {MOST_COMMAS:,} commas")
    found = _array.decode(memoryview(text)[start:end])
    if len(found) > _MOST_MEMBERS:
        raise TooComplex(f"an array in it has more than {_MOST_MEMBERS:,} items")
    start += 1
    for raw in found:
        begin = _past(_SPACE + b",", text, start)
        start = begin + len(raw)
        yield JsonMember("", begin, start)


def decode_text(raw: bytes) -> str:
    """Decode a JSON string. If it contains half a surrogate pair, every half becomes U+FFFD."""
    try:
        return _text.decode(raw)
    except msgspec.DecodeError:
        return _text.decode(_SURROGATE.sub(rb"\\uFFFD", raw))


def _value_after(text: bytes, start: int) -> int:
    """Give the start of the next member's value. The text is valid."""
    match = _KEY.match(text, start)
    if match is not None:
        return match.end()
    # Long white space is skipped faster than by a regular expression.
    match = _NAME.match(text, _past(_SPACE + b",{", text, start))
    assert match is not None
    return _past(_SPACE + b":", text, match.end())


def _past(characters: bytes, text: bytes, start: int) -> int:
    """Give the position of the first other character from `start` on."""
    while True:
        window = text[start : start + _WINDOW]
        rest = window.lstrip(characters)
        if rest or not window:
            return start + len(window) - len(rest)
        start += _WINDOW
