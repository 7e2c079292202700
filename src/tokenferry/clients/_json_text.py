"""Edits a JSON document, and keeps every other character."""

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final, NoReturn, Self

from msgspec import Struct

from tokenferry.clients._settings_text import HiddenText, Keys, ShownString
from tokenferry.secret import json_fault

_BLANKS: Final = " \t\r\n"
_INDENT: Final = "  "
_DECODER: Final = json.JSONDecoder()
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_STRING_OR_COMMENT: Final = re.compile(rf"{_STRING}|(?P<comment>//[^\r\n]*|/\*.*?\*/)", re.DOTALL)
_STRING_OR_LAST_COMMA: Final = re.compile(rf"{_STRING}|(?P<comma>,)(?=[ \t\r\n]*[}}\]])", re.DOTALL)
_NO_LINE_END: Final = re.compile(r"[^\r\n]")
_LINE_END: Final = re.compile(r"[ \t]*\r?\n")
_COMMENT_BEHIND: Final = re.compile(r"[ \t]*(,?)[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/(?=[ \t]*[\r\n]))")


class TextMember(Struct, frozen=True):
    """A member of an object: where its key starts and ends, and its value."""

    key: str
    start: int
    colon: int
    value: int
    end: int


class TextBlock(Struct, frozen=True):
    """An object in a text: the places of its braces, and its members."""

    start: int
    members: tuple[TextMember, ...]
    close: int


class JsonText:
    """A JSON object; see `SettingsText`."""

    EMPTY: ClassVar = "{}\n"
    RULE: ClassVar = "it must be JSON without comments"

    __slots__ = ("_plain", "text")

    def __init__(self, text: str) -> None:
        self.text = HiddenText(text)
        del text  # a traceback shows the locals of this frame
        self._plain = self._without_comments()
        try:
            value = json.loads(self._plain, parse_constant=_refuse)
        except json.JSONDecodeError as fault:
            reason = json_fault(fault)
        except (ValueError, RecursionError) as fault:
            reason = "it is nested too deep" if isinstance(fault, RecursionError) else str(fault)
        else:
            if isinstance(value, dict):
                return
            reason = "line 1: it must be an object, in braces"
        raise ValueError(reason)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.text)} characters)"

    def _without_comments(self) -> HiddenText:
        """Give the text as every JSON parser reads it, with the same offsets."""
        return self.text

    def raw(self, keys: Keys) -> HiddenText | None:
        """Give the value at this place as it was typed; None if it is missing.

        Raises `ValueError` if a key on the way occurs twice, or isn't an object's.
        """
        block = self._block(keys[:-1])
        member = None if block is None else self._member(block, keys[-1])
        return None if member is None else HiddenText(self.text[member.value : member.end])

    def with_value(self, keys: Keys, raw: str) -> Self:
        """Put a value there; missing objects are laid out like the document. Raises what `raw` does."""
        block = self._block(keys[:-1])
        if block is None:
            return self.with_value(keys[:-1], self._object(keys[-1], raw, len(keys)))
        member = self._member(block, keys[-1])
        if member is not None:
            return self._spliced(member.value, member.end, raw)
        return self._with_member(block, f"{json.dumps(keys[-1])}{self._colon()}{raw}", len(keys))

    def without(self, keys: Keys) -> Self:
        """Remove a member with its comma. Raises what `raw` does."""
        block = self._block(keys[:-1])
        member = None if block is None else self._member(block, keys[-1])
        if block is None or member is None:
            return self
        place = block.members.index(member)
        start = block.members[place - 1].end if place > 0 else block.start + 1
        end = block.members[place + 1].start if place + 1 < len(block.members) else block.close
        if self.text[start:end] != self._plain[start:end]:
            return self._without_member(member, start)
        if place > 0:
            return self._spliced(start, member.end, "")
        if len(block.members) > 1:
            return self._spliced(member.start, end, "")
        return self._spliced(start, end, "")

    def has_section(self, keys: Keys) -> bool:
        return self._block(keys) is not None

    def is_empty(self, keys: Keys) -> bool:
        block = self._block(keys)
        return block is not None and not self.text[block.start + 1 : block.close].strip()

    def strings(self) -> Iterator[ShownString]:
        for keys, start, end in _strings(self._plain, _skip(self._plain, 0), ()):
            yield ShownString(keys, start, end, json.loads(self._plain[start:end]))

    @staticmethod
    def encode(value: Any) -> HiddenText:
        return HiddenText(json.dumps(value))

    @staticmethod
    def decode(raw: str) -> Any:
        return json.loads(raw)

    def _spliced(self, start: int, end: int, new: str) -> Self:
        return type(self)(self.text[:start] + new + self.text[end:])

    def _with_member(self, block: TextBlock, member: str, depth: int) -> Self:
        if not block.members:
            inside = self.text[block.start + 1 : block.close].rstrip(_BLANKS)
            inner = f"{inside}{self._break(depth)}{member}{self._break(depth - 1)}"
            return self._spliced(block.start + 1, block.close, inner)
        last = block.members[-1]
        is_only = len(block.members) == 1
        before = self._plain[block.start + 1 if is_only else block.members[-2].end : last.start].rpartition(",")[2]
        before = self._colon().partition(":")[2] if is_only and "\n" not in before else _last_line(before)
        behind = _COMMENT_BEHIND.match(self.text, last.end) if "\n" in before else None
        if behind is None:
            return self._spliced(last.end, last.end, f",{before}{member}")
        comment = behind[0].replace(",", "", len(behind[1]))  # stays with the member that it is about
        return self._spliced(last.end, behind.end(), f",{comment}{before}{member}{behind[1]}")

    def _without_member(self, member: TextMember, start: int) -> Self:
        """Remove the member, one comma and the blanks before it; keep the comments around it."""
        text, commas = self.text, _blank_comments(self.text)
        comma = _skip(commas, member.end)
        if commas[comma] != ",":
            comma = commas.rfind(",", start, member.start)
        begin = len(text[: member.start].rstrip(_BLANKS))
        if not _LINE_END.match(text, max(member.end, comma + 1)):  # a comment before it may need its line's end
            begin = member.start
        cuts = sorted([(begin, member.end), (comma, comma + 1)] if comma >= 0 else [(begin, member.end)])
        for first, last in reversed(cuts):
            text = HiddenText(text[:first] + text[last:])
        return type(self)(text)

    def _object(self, key: str, raw: str, depth: int) -> str:
        return f"{{{self._break(depth)}{json.dumps(key)}{self._colon()}{raw}{self._break(depth - 1)}}}"

    def _break(self, depth: int) -> str:
        """Give a line's end and the indentation of members at this depth; empty in a document of one line."""
        top = _read(self._plain, _skip(self._plain, 0))
        before = self._plain[top.start + 1 : top.members[0].start] if top.members else f"\n{_INDENT}"
        if "\n" not in before:
            return ""
        return ("\r\n" if "\r\n" in self.text else "\n") + before.rpartition("\n")[2] * depth

    def _colon(self) -> str:
        top = _read(self._plain, _skip(self._plain, 0))
        return self._plain[top.members[0].colon : top.members[0].value] if top.members else ": "

    def _block(self, keys: Keys) -> TextBlock | None:
        """Give the object that these keys lead to; None if a key is missing."""
        block = _read(self._plain, _skip(self._plain, 0))
        for key in keys:
            member = self._member(block, key)
            if member is None:
                return None
            if self.text[member.value] != "{":
                raise ValueError(f'line {self._line(member.value)}: "{key}" must be an object, in braces')
            block = _read(self._plain, member.value)
        return block

    def _member(self, block: TextBlock, key: str) -> TextMember | None:
        found = [member for member in block.members if member.key == key]
        if len(found) > 1:
            raise ValueError(f'line {self._line(found[1].start)}: "{key}" is there twice')
        return found[0] if found else None

    def _line(self, place: int) -> int:
        return self.text.count("\n", 0, place) + 1


class JsoncText(JsonText):
    """A JSON object with comments and trailing commas, as OpenCode and Gemini CLI read it."""

    RULE: ClassVar = "it must be JSON, in which comments are allowed"

    __slots__ = ()

    def _without_comments(self) -> HiddenText:
        plain = _blank_comments(self.text)
        return HiddenText(_STRING_OR_LAST_COMMA.sub(lambda found: " " if found["comma"] else found[0], plain))

    def strings(self) -> Iterator[ShownString]:
        comments = (found for found in _STRING_OR_COMMENT.finditer(self.text) if found["comment"])
        shown = [ShownString((), found.start(), found.end(), found[0]) for found in comments]
        return iter(sorted([*super().strings(), *shown], key=lambda one: one.start))


def _blank_comments(text: str) -> HiddenText:
    """Give the text with blanks in place of the comments."""
    return HiddenText(
        _STRING_OR_COMMENT.sub(
            lambda found: _NO_LINE_END.sub(" ", found[0]) if found["comment"] else found[0],
            text,
        )
    )


def _last_line(blanks: str) -> str:
    """Give the line's end and the indentation before a member; the blanks of one line unchanged."""
    lines, end, indentation = blanks.rpartition("\n")
    return ("\r" if lines.endswith("\r") else "") + end + indentation


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} isn't a value in JSON")


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANKS:
        place += 1
    return place


def _read(text: str, start: int) -> TextBlock:
    """Read the object whose brace opens there, in valid JSON."""
    members: list[TextMember] = []
    place = _skip(text, start + 1)
    while text[place] != "}":
        key, colon = _DECODER.raw_decode(text, place)
        value = _skip(text, _skip(text, colon) + 1)
        _, end = _DECODER.raw_decode(text, value)
        members.append(TextMember(key, place, colon, value, end))
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return TextBlock(start, tuple(members), place)


def _strings(text: str, place: int, keys: Keys) -> Iterator[tuple[Keys, int, int]]:
    if text[place] == '"':
        yield keys, place, _end(text, place)
    elif text[place] == "{":
        for member in _read(text, place).members:
            yield from _strings(text, member.value, (*keys, member.key))
    elif text[place] == "[":
        place = _skip(text, place + 1)
        while text[place] != "]":
            yield from _strings(text, place, keys)
            place = _skip(text, _end(text, place))
            if text[place] == ",":
                place = _skip(text, place + 1)


def _end(text: str, place: int) -> int:
    end: Any = _DECODER.raw_decode(text, place)[1]
    return int(end)
