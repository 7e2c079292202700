"""Edits a TOML document, and keeps every comment and every other line."""

import re
import tomllib
from collections.abc import Iterator, MutableMapping
from copy import deepcopy
from typing import Any, ClassVar, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item

from tokenferry.clients._settings_text import HiddenText, Keys, ShownString

_STRING_OR_COMMENT: Final = re.compile(
    r"""(?P<comment>\#[^\n]*)|"{3}(?:\\.|[^\\])*?"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""", re.DOTALL
)
_KEY_ENDS: Final = re.compile(r"[ \t]*[=.]")
_NAME: Final = re.compile(r"""^[ \t]*([\w.'"-]+)[ \t]*=""", re.MULTILINE)


class TomlText:
    """A TOML document; see `SettingsText`.

    An edit is compared with what another parser makes of it: what tomlkit can't place is refused, never written.
    """

    EMPTY: ClassVar = ""
    RULE: ClassVar = "it must be TOML"

    __slots__ = ("_values", "text")

    def __init__(self, text: str) -> None:
        self.text = HiddenText(text)
        del text  # a traceback shows the locals of this frame
        try:
            self._values = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as fault:
            place = re.search(r"\(at (line \d+), column \d+\)", str(fault))
            reason = f"{place[1]}: it can't be parsed" if place else "its last line is cut off"
        except RecursionError:
            reason = "it is nested too deep"
        else:
            return
        raise ValueError(reason)

    def __repr__(self) -> str:
        return f"TomlText({len(self.text)} characters)"

    def raw(self, keys: Keys) -> HiddenText | None:
        section = _section(self._values, keys[:-1])
        return None if section is None or keys[-1] not in section else self.encode(section[keys[-1]])

    def with_value(self, keys: Keys, raw: str) -> "TomlText":
        expected = deepcopy(self._values)
        _put(expected, keys, self.decode(raw), dict)
        return self._edited(lambda document: _put(document, keys, tomlkit.value(raw), _new_table), expected)

    def without(self, keys: Keys) -> "TomlText":
        section = _section(self._values, keys[:-1])
        if section is None or keys[-1] not in section:
            return self
        expected = deepcopy(self._values)
        _take_out(expected, keys)
        return self._edited(lambda document: _take_out(document, keys), expected)

    def has_section(self, keys: Keys) -> bool:
        return _section(self._values, keys) is not None

    def is_empty(self, keys: Keys) -> bool:
        section = _section(self._values, keys)
        return section is not None and not section and (bool(keys) or not self.text.strip())

    def strings(self) -> Iterator[ShownString]:
        for found in _STRING_OR_COMMENT.finditer(self.text):
            if found["comment"]:
                yield ShownString((), found.start(), found.end(), found[0])
            elif not _KEY_ENDS.match(self.text, found.end()):
                names = _NAME.findall(self.text, 0, found.start())
                keys = (str(names[-1]),) if names else ()
                yield ShownString(keys, found.start(), found.end(), found[0].strip("\"'"))

    @staticmethod
    def encode(value: Any) -> HiddenText:
        return HiddenText(tomlkit.item(value).as_string())

    @staticmethod
    def decode(raw: str) -> Any:
        return tomllib.loads(f"value = {raw}")["value"]

    def _edited(self, edit: Any, expected: dict[str, Any]) -> "TomlText":
        ends = "\r\n" if 0 < self.text.count("\n") == self.text.count("\r\n") else "\n"
        text = self.text.replace(ends, "\n")
        try:
            document = tomlkit.parse(text if not text or text.endswith("\n") else f"{text}\n")
            edit(document)
            new = HiddenText(tomlkit.dumps(document).replace("\n", ends))
            if _pruned(tomllib.loads(new)) == _pruned(expected):
                return TomlText(new)
        except (TOMLKitError, ValueError, TypeError, AttributeError):
            pass  # its words may quote the file
        raise ValueError("its tables are laid out in a way that can't be edited without a risk")


def _section(values: Any, keys: Keys) -> Any:
    for key in keys:
        if key not in values:
            return None
        values = values[key]
        if not isinstance(values, MutableMapping):  # what the file says, so no TypeError
            raise ValueError(f"{key} must be a table")  # noqa: TRY004  # see above
    return values


def _put(values: Any, keys: Keys, value: Any, new: Any) -> None:
    for key in keys[:-1]:
        if key not in values:
            values[key] = new()
        values = values[key]
    values[keys[-1]] = value


def _take_out(values: Any, keys: Keys) -> None:
    del _section(values, keys[:-1])[keys[-1]]


def _pruned(values: dict[str, Any]) -> dict[str, Any]:
    """Give the values without empty tables: tomlkit drops one that is emptied and has no header of its own."""
    inner = {key: _pruned(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in inner.items() if value != {}}


def _new_table() -> Item:
    return tomlkit.table()
