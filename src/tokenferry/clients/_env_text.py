"""Edits a `.env` file, and keeps every other line."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from tokenferry.clients._settings_text import HiddenText, Keys, ShownString

# As npm's dotenv reads it: a value in quotes may go over several lines.
_QUOTED: Final = r"""'(?:\\'|[^'])*'|"(?:\\"|[^"])*"|`(?:\\`|[^`])*`"""
_ASSIGNMENT: Final = re.compile(
    rf"^[ \t]*(?:export[ \t]+)?(?P<name>[\w.-]+)[ \t]*=[ \t]*(?P<value>{_QUOTED}|[^#\r\n]*)[^\r\n]*(?:\r?\n|\Z)",
    re.MULTILINE,
)
_COMMENT: Final = re.compile(r"^[ \t]*#[^\r\n]*", re.MULTILINE)
_PLAIN_VALUE: Final = re.compile(r"[\w:/.+-]+")


class EnvText:
    """A `.env` file; see `SettingsText`. Its keys are the variables' names."""

    EMPTY: ClassVar = ""
    RULE: ClassVar = "it must consist of lines NAME=value"

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = HiddenText(text)

    def __repr__(self) -> str:
        return f"EnvText({len(self.text)} characters)"

    def raw(self, keys: Keys) -> HiddenText | None:
        found = self._find(keys)
        return None if found is None else HiddenText(found["value"].strip())

    def with_value(self, keys: Keys, raw: str) -> "EnvText":
        found = self._find(keys)
        if found is not None:
            start = found.start("value")
            end = start + len(found["value"].rstrip())
            return EnvText(f"{self.text[:start]}{raw}{self.text[end:]}")
        ends = "\r\n" if "\r\n" in self.text else "\n"
        gap = ends if self.text and not self.text.endswith("\n") else ""
        return EnvText(f"{self.text}{gap}{keys[0]}={raw}{ends}")

    def without(self, keys: Keys) -> "EnvText":
        found = self._find(keys)
        return self if found is None else EnvText(self.text[: found.start()] + self.text[found.end() :])

    def has_section(self, keys: Keys) -> bool:
        return not keys

    def is_empty(self, keys: Keys) -> bool:
        return not keys and not self.text.strip()

    def strings(self) -> Iterator[ShownString]:
        values = [
            ShownString(("env", one["name"]), *one.span("value"), one["value"].strip(" \t\"'`"))
            for one in self._assignments()
        ]
        comments = [ShownString((), *one.span(), one[0]) for one in _COMMENT.finditer(self.text)]
        return iter(sorted([*values, *comments], key=lambda one: one.start))

    @staticmethod
    def encode(value: Any) -> HiddenText:
        if not _PLAIN_VALUE.fullmatch(str(value)):
            raise ValueError("a value holds a character that would need quotes")
        return HiddenText(value)

    @staticmethod
    def decode(raw: str) -> Any:
        return raw.strip(" \t\"'`")

    def _assignments(self) -> Iterator["re.Match[str]"]:
        return _ASSIGNMENT.finditer(self.text)

    def _find(self, keys: Keys) -> "re.Match[str] | None":
        found = [one for one in self._assignments() if one["name"] == keys[0]]
        if len(found) > 1:
            line = self.text.count("\n", 0, found[1].start()) + 1
            raise ValueError(f"line {line}: {keys[0]} is set twice")
        return found[0] if found else None
