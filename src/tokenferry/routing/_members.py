"""Where the members of a JSON object are in its text. Every key is kept, also one that comes twice."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

_MOST_MEMBERS: Final = 1000  # of an object; a request has some twenty
_KEY: Final = re.compile(rb'[ \t\r\n,{]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_GAP: Final = re.compile(rb"[ \t\r\n,[]*")


class Key:
    """A key with its escapes decoded. Equal to itself alone, so that one that comes twice stays twice in a dict."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Member(NamedTuple):
    """A member of an object or an item of an array (`name` is empty): its value is `text[start:end]`."""

    name: str
    start: int
    end: int


class TooMany(Exception):  # noqa: N818  # a limit, caught by who decodes
    """An object has more members than are read."""


class _Keys:
    """Makes keys, as many as an object may have: each is a call, and a body could hold millions."""

    def __init__(self) -> None:
        self.left = 0

    def __call__(self, _kind: type, name: Any) -> Key:
        self.left -= 1
        if self.left < 0:
            raise TooMany
        return Key(name)


_keys: Final = _Keys()
_object: Final = msgspec.json.Decoder(dict[Key, msgspec.Raw], dec_hook=_keys)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_members(text: bytes | memoryview) -> Mapping[Key, msgspec.Raw]:
    """The members of the object that is the whole of the text, which is checked to its end.

    Raises `msgspec.MsgspecError`, `UnicodeDecodeError` (in a key), `RecursionError` and `TooMany`.
    """
    _keys.left = _MOST_MEMBERS
    return _object.decode(text)


def locate(members: Mapping[Key, msgspec.Raw], text: bytes | memoryview, start: int = 0) -> Iterator[Member]:
    """Say where each is in the text in which the object begins at `start`."""
    for key, raw in members.items():
        match = _KEY.match(text, start)
        assert match is not None  # it was decoded from this text
        begin = match.end()
        start = begin + len(raw)
        yield Member(key.name, begin, start)


def place_of(number: int, members: Mapping[Key, msgspec.Raw], text: bytes) -> tuple[int, int]:
    """Where the value of the one of this number (from 1) is, without a look at those behind it."""
    end = begin = 0
    for raw in members.values():
        match = _KEY.match(text, end)
        assert match is not None
        begin = match.end()
        end = begin + len(raw)
        number -= 1
        if not number:
            break
    return begin, end


def items(text: bytes, start: int, end: int) -> Iterator[Member]:
    """The items of the array that is `text[start:end]`, which was checked before."""
    for raw in _array.decode(memoryview(text)[start:end]):
        match = _GAP.match(text, start)
        assert match is not None
        begin = match.end()
        start = begin + len(raw)
        yield Member("", begin, start)
