"""What becomes of each field of a request in another format: declared once, for the codec and for docs/formats.md."""

import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from tokenferry.errors import Unfit


class Fate(NamedTuple):
    word: Literal["kept", "left out", "unfit"]
    note: str


def kept(note: str = "") -> Fate:
    """It is translated, as the note says."""
    return Fate("kept", note)


def left_out(note: str = "") -> Fate:
    """It is a hint that the other format has no word for: the request is served without, and the field named."""
    return Fate("left out", note)


def unfit(note: str = "") -> Fate:
    """It changes what is asked for, and can't be said: the upstream can't serve such a request."""
    return Fate("unfit", note)


Fates: TypeAlias = Mapping[type[Struct], Mapping[str, Fate]]

_Unread: TypeAlias = tuple[tuple[str, ...], Callable[[Struct], tuple[Any, ...]], tuple[UnsetType, ...]]
_EMPTY: Final = frozenset((b"null", b"[]", b"{}", b"false"))


class FateTable:
    """Applies the fates of the fields that a codec does not look into."""

    def __init__(self, fates: Fates) -> None:
        self.fates = fates
        self._unread = {kind: _unread(kind, fields) for kind, fields in fates.items()}

    def apply(self, part: Struct, left: set[str]) -> None:
        """Name the fields of a part that are left out. Raises `Unfit`."""
        fields, read, absent = self._unread[type(part)]
        if not fields or (values := read(part)) == absent:
            return
        for name, value in zip(fields, values, strict=True):
            if value is not UNSET and bytes(value) not in _EMPTY:
                if self.fates[type(part)][name].word == "unfit":
                    raise Unfit(f"{name} has no counterpart there")
                left.add(name)

    def rows(self) -> Iterator[tuple[str, str, Fate]]:
        """The part, the field and its fate, as documented."""
        for kind, fields in self.fates.items():
            part = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind.__name__).lower()
            for name, fate in fields.items():
                yield part, name, fate


def _unread(kind: type[Struct], fields: Mapping[str, Fate]) -> _Unread:
    """The fields to look for, what reads them all at once, and what that gives where there are none."""
    defaults = dict(zip(reversed(kind.__struct_fields__), reversed(kind.__struct_defaults__), strict=False))
    names = tuple(name for name, fate in fields.items() if fate.word != "kept" and defaults.get(name) is UNSET)
    read = attrgetter(*names) if len(names) > 1 else lambda part: tuple(getattr(part, name) for name in names)
    return names, read, (UNSET,) * len(names)
