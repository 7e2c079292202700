from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeAlias

Keys: TypeAlias = tuple[str, ...]


class HiddenText(str):
    """A text that may hold secrets: its repr, and so a traceback's locals, shows only its length."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} characters>"


class ShownString(NamedTuple):
    """A string or comment of a settings file: the keys that lead to it, its start and end, and its value."""

    keys: Keys
    start: int
    end: int
    value: str


class SettingsText(Protocol):
    """A settings file as it was typed. An edit gives another text, and keeps every other character.

    Invalid syntax, and an edit that the syntax has no place for, raise `ValueError`, which names the line and never
    quotes it.
    """

    EMPTY: ClassVar[str]
    """The text of a file without settings."""
    RULE: ClassVar[str]
    """What such a file must be, for messages."""

    def __init__(self, text: str) -> None: ...

    @property
    def text(self) -> HiddenText: ...

    def raw(self, keys: Keys) -> HiddenText | None:
        """Give the value at this place as it was typed; None if it is missing."""
        ...

    def with_value(self, keys: Keys, raw: str) -> Self: ...

    def without(self, keys: Keys) -> Self:
        """Remove a value or a section, if it exists."""
        ...

    def has_section(self, keys: Keys) -> bool: ...

    def is_empty(self, keys: Keys) -> bool:
        """Tell whether the section exists and is empty; without keys, the whole file."""
        ...

    def strings(self) -> Iterator[ShownString]:
        """Give everything in it that may hold a secret, in order."""
        ...

    @staticmethod
    def encode(value: Any) -> HiddenText:
        """Give a value in this syntax."""
        ...

    @staticmethod
    def decode(raw: str) -> Any: ...
