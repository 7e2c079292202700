"""How a codec handles each field of a request: declared once, for the codec and for docs/formats.md."""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tokenferry.errors import Unfit


class FieldHandling(NamedTuple):
    word: Literal["translated", "left out", "ignored", "unfit"]
    note: str
    """A clause in lower case; empty where the word says it all."""
    by_codec: bool
    """Whether the codec reads the field itself, so that `FieldTable.apply` need not look at it."""


def translated(note: str = "") -> FieldHandling:
    """The codec translates the field, as the note says."""
    return FieldHandling("translated", note, by_codec=True)


def left_out(note: str = "", *, by_codec: bool = False) -> FieldHandling:
    """The field is a hint without a counterpart. The request is sent without it, and the log names the field."""
    return FieldHandling("left out", note, by_codec)


def ignored(note: str = "") -> FieldHandling:
    """The field adds nothing to what is sent. It is dropped without being named."""
    return FieldHandling("ignored", note, by_codec=True)


def unfit(note: str = "", *, by_codec: bool = False) -> FieldHandling:
    """The field changes what is asked for and has no counterpart. The upstream can't serve the request."""
    return FieldHandling("unfit", note, by_codec)


FieldHandlings: TypeAlias = Mapping[type[Struct], Mapping[str, FieldHandling]]


def changed(handlings: FieldHandlings, changes: FieldHandlings) -> FieldHandlings:
    """Give the handlings with some of them replaced."""
    return {kind: {**fields, **changes.get(kind, {})} for kind, fields in handlings.items()}


_Unread: TypeAlias = tuple[tuple[str, ...], Callable[[Struct], tuple[Any, ...]], tuple[UnsetType, ...]]
_EMPTY: Final = frozenset((b"null", b"[]", b"{}", b"false"))


class FieldTable:
    """Handles the fields that a codec does not read itself."""

    def __init__(self, handlings: FieldHandlings) -> None:
        self.handlings = handlings
        self._unread = {kind: _unread(kind, fields) for kind, fields in handlings.items()}

    def apply(self, part: Struct, left: set[str]) -> None:
        """Add the fields of a part that are left out to `left`, by name. Raises `Unfit`."""
        fields, read, absent = self._unread[type(part)]
        if not fields or (values := read(part)) == absent:
            return
        for name, value in zip(fields, values, strict=True):
            if value is not UNSET and bytes(value) not in _EMPTY:
                word, note, _ = self.handlings[type(part)][name]
                if word == "unfit":
                    raise Unfit(f"{_shown(part, name)} can't be translated{note and f': {note}'}")
                left.add(_shown(part, name))

    def rows(self) -> Iterator[tuple[str, str, FieldHandling]]:
        """Give the part, the field and its handling, for the documentation."""
        for kind, fields in self.handlings.items():
            part = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind.__name__).lower()
            for name, handling in fields.items():
                yield part, _shown(kind, name), handling


def _shown(kind: type[Struct] | Struct, name: str) -> str:
    """Give a field's name in JSON, which may be a reserved word of Python or in camel case."""
    return kind.__struct_encode_fields__[kind.__struct_fields__.index(name)]


def _unread(kind: type[Struct], fields: Mapping[str, FieldHandling]) -> _Unread:
    """Give the fields to look for, a function that reads them all at once, and its result for a part without any."""
    defaults = dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))
    names = tuple(name for name, handling in fields.items() if not handling.by_codec and defaults.get(name) is UNSET)
    if len(names) == 1:
        names *= 2  # attrgetter gives a tuple only for two names or more
    return names, attrgetter(*names) if names else lambda _: (), (UNSET,) * len(names)
