"""Where the members of a JSON object are in its text. Every key is kept, also one that comes twice.

Everything here costs time in proportion to the text, once, and memory in proportion to a few limits: a body may be
made to cost as much as it can.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from tokenferry.errors import UsageError

MOST_COMMAS: Final = 500_000
"""In an array whose items are read one by one: a bound of their number that costs no memory to find."""

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


class TooComplex(UsageError):  # noqa: N818  # what is answered, as in the errors of this program
    """A body has more of something than is looked at."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the request's body is too complex: {what}; send less of it")


class Key:
    """A key with its escapes decoded. Equal to itself alone, so that one that comes twice stays twice in a dict."""

    __slots__ = ("name",)

    name: str


class JsonMember(NamedTuple):
    """A member of an object or an item of an array (`name` is empty): its value is `text[start:end]`."""

    name: str
    start: int
    end: int


class _Keys:
    """Makes keys, as many as an object may have: each is a call, and a body could hold millions."""

    def __init__(self) -> None:
        self.left = self.most = 0

    def __call__(self, _kind: type, name: Any) -> Key:
        self.left -= 1
        if self.left < 0:
            raise TooComplex(f"an object in it has more than {self.most:,} members")
        if len(name) > _LONGEST_KEY:
            raise TooComplex(f"a name in it is longer than {_LONGEST_KEY} characters")
        key = _new_key(Key)  # a constructor of its own would be one more call for each
        key.name = name
        return key


_new_key: Final = object.__new__
_keys: Final = _Keys()
_object: Final = msgspec.json.Decoder(dict[Key, msgspec.Raw], dec_hook=_keys)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_members(text: bytes | memoryview, most: int = _MOST_MEMBERS) -> Mapping[Key, msgspec.Raw]:
    """The members, `most` of them, of the object that is the whole of the text, which is checked to its end.

    Raises `msgspec.MsgspecError`, `UnicodeDecodeError` (in a key), `RecursionError` and `TooComplex`.
    """
    _keys.left = _keys.most = most
    return _object.decode(text)


def locate(members: Mapping[Key, msgspec.Raw], text: bytes, start: int = 0) -> Iterator[JsonMember]:
    """Say where each is in the text in which the object begins at `start`."""
    for key, raw in members.items():
        begin = _value_after(text, start)
        start = begin + len(raw)
        yield JsonMember(key.name, begin, start)


def place_of(number: int, members: Mapping[Key, msgspec.Raw], text: bytes) -> tuple[int, int]:
    """Where the value of the one of this number (from 1) is, without a look at those behind it."""
    end = begin = 0
    for raw in members.values():
        begin = _value_after(text, end)
        end = begin + len(raw)
        number -= 1
        if not number:
            break
    return begin, end


def items(text: bytes, start: int, end: int) -> Iterator[JsonMember]:
    """The items of the array that is `text[start:end]`, which was checked before. Raises `TooComplex`."""
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
    """The text that a JSON string stands for. With half of a surrogate pair in it, every half becomes U+FFFD."""
    try:
        return _text.decode(raw)
    except msgspec.DecodeError:
        return _text.decode(_SURROGATE.sub(rb"\\uFFFD", raw))


def _value_after(text: bytes, start: int) -> int:
    """Where the value of the member begins whose key comes next. The object was decoded from this text."""
    match = _KEY.match(text, start)
    if match is not None:
        return match.end()
    # White space without end would be read at the pace of a regular expression.
    match = _NAME.match(text, _past(_SPACE + b",{", text, start))
    assert match is not None
    return _past(_SPACE + b":", text, match.end())


def _past(characters: bytes, text: bytes, start: int) -> int:
    """Where something else than these comes, from `start` on."""
    while True:
        window = text[start : start + _WINDOW]
        rest = window.lstrip(characters)
        if rest or not window:
            return start + len(window) - len(rest)
        start += _WINDOW
