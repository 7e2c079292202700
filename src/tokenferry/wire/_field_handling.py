"""What becomes of each field of a request in another format: declared once, for the codec and for docs/formats.md."""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tokenferry.errors import Unfit


class FieldHandling(NamedTuple):
    word: Literal["kept", "left out", "unfit"]
    note: str


def kept(note: str = "") -> FieldHandling:
    """It is translated, as the note says."""
    return FieldHandling("kept", note)


def left_out(note: str = "") -> FieldHandling:
    """It is a hint that the other format has no word for: the request is served without, and the field named."""
    return FieldHandling("left out", note)


def unfit(note: str = "") -> FieldHandling:
    """It changes what is asked for, and can't be said: the upstream can't serve such a request."""
    return FieldHandling("unfit", note)


FieldHandlings: TypeAlias = Mapping[type[Struct], Mapping[str, FieldHandling]]


def changed(handlings: FieldHandlings, changes: FieldHandlings) -> FieldHandlings:
    """The handlings with some of them changed."""
    return {kind: {**fields, **changes.get(kind, {})} for kind, fields in handlings.items()}


_Unread: TypeAlias = tuple[tuple[str, ...], Callable[[Struct], tuple[Any, ...]], tuple[UnsetType, ...]]
_EMPTY: Final = frozenset((b"null", b"[]", b"{}", b"false"))


class FieldTable:
    """Applies the handlings of the fields that a codec does not look into."""

    def __init__(self, handlings: FieldHandlings) -> None:
        self.handlings = handlings
        self._unread = {kind: _unread(kind, fields) for kind, fields in handlings.items()}

    def apply(self, part: Struct, left: set[str]) -> None:
        """Name the fields of a part that are left out. Raises `Unfit`."""
        fields, read, absent = self._unread[type(part)]
        if not fields or (values := read(part)) == absent:
            return
        for name, value in zip(fields, values, strict=True):
            if value is not UNSET and bytes(value) not in _EMPTY:
                word, note = self.handlings[type(part)][name]
                if word == "unfit":
                    raise Unfit(f"{_shown(part, name)} has no counterpart there{note and f': {note}'}")
                left.add(_shown(part, name))

    def rows(self) -> Iterator[tuple[str, str, FieldHandling]]:
        """The part, the field and its handling, as documented."""
        for kind, fields in self.handlings.items():
            part = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind.__name__).lower()
            for name, handling in fields.items():
                yield part, _shown(kind, name), handling


def _shown(kind: type[Struct] | Struct, name: str) -> str:
    """A field as the format calls it: some are reserved words of Python, and some formats spell them in another way."""
    return kind.__struct_encode_fields__[kind.__struct_fields__.index(name)]


def _unread(kind: type[Struct], fields: Mapping[str, FieldHandling]) -> _Unread:
    """The fields to look for, what reads them all at once, and what that gives where there are none."""
    defaults = dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))
    names = tuple(name for name, handling in fields.items() if handling.word != "kept" and defaults.get(name) is UNSET)
    if len(names) == 1:
        names *= 2  # for a tuple of one, attrgetter gives what is in it
    return names, attrgetter(*names) if names else lambda _: (), (UNSET,) * len(names)
