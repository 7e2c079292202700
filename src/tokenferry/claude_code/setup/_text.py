"""Edits of a JSON document that leave every other character of it as it is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

Keys: TypeAlias = tuple[str, ...]

_BLANKS: Final = " \t\r\n"
_INDENT: Final = "  "
_DECODER: Final = json.JSONDecoder()


class HiddenText(str):
    """A text that may hold secrets: its repr, and so a traceback's locals, shows its length alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} characters>"


@dataclass(frozen=True, slots=True)
class TextMember:
    """A member of an object: where its key starts and ends, and its value."""

    key: str
    start: int
    colon: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class TextBlock:
    """An object in a text: where its braces are, and what is between them."""

    start: int
    members: tuple[TextMember, ...]
    close: int


class JsonText:
    """A JSON object as it was typed. Editing gives another one.

    Raises `ValueError`, which tells the line and never the text, for what is no JSON object.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = HiddenText(text)
        del text  # a traceback shows the locals of this frame
        try:
            value = json.loads(self.text, parse_constant=_refuse)
        except json.JSONDecodeError as fault:
            reason = f"line {fault.lineno}: {fault.msg}"
        except (ValueError, RecursionError) as fault:
            reason = "it is nested too deep" if isinstance(fault, RecursionError) else str(fault)
        else:
            if isinstance(value, dict):
                return
            reason = "line 1: it must be an object, in braces"
        raise ValueError(reason)

    def __repr__(self) -> str:
        return f"JsonText({len(self.text)} characters)"

    def raw(self, keys: Keys) -> HiddenText | None:
        """The value at this place as it was typed; None if there is none.

        Raises `ValueError` if a key on the way is there twice, or leads to what is no object.
        """
        block = self._block(keys[:-1])
        member = None if block is None else self._member(block, keys[-1])
        return None if member is None else HiddenText(self.text[member.value : member.end])

    def with_value(self, keys: Keys, raw: str) -> "JsonText":
        """Put a value there; what has to be made for it is laid out as the document is. Raises what `raw` does."""
        block = self._block(keys[:-1])
        if block is None:
            return self.with_value(keys[:-1], self._object(keys[-1], raw, len(keys)))
        member = self._member(block, keys[-1])
        if member is not None:
            return self._spliced(member.value, member.end, raw)
        return self._with_member(block, f"{json.dumps(keys[-1])}{self._colon()}{raw}", len(keys))

    def without(self, keys: Keys) -> "JsonText":
        """Take a member out, with the comma that belongs to it. Raises what `raw` does."""
        block = self._block(keys[:-1])
        member = None if block is None else self._member(block, keys[-1])
        if block is None or member is None:
            return self
        place = block.members.index(member)
        if place > 0:
            return self._spliced(block.members[place - 1].end, member.end, "")
        if len(block.members) > 1:
            return self._spliced(member.start, block.members[1].start, "")
        return self._spliced(block.start + 1, block.close, "")

    def strings(self) -> Iterator[tuple[Keys, int, int]]:
        """Every value that is a string: the keys that lead to it, where it starts and where it ends."""
        yield from _strings(self.text, _skip(self.text, 0), ())

    def _spliced(self, start: int, end: int, new: str) -> "JsonText":
        return JsonText(self.text[:start] + new + self.text[end:])

    def _with_member(self, block: TextBlock, member: str, depth: int) -> "JsonText":
        if not block.members:
            inner = f"{self._break(depth)}{member}{self._break(depth - 1)}"
            return self._spliced(block.start + 1, block.close, inner)
        last = block.members[-1]
        if len(block.members) > 1:
            before = self.text[block.members[-2].end : last.start].partition(",")[2]
        else:
            before = self.text[block.start + 1 : last.start]
            before = before if "\n" in before else self._colon().partition(":")[2]
        return self._spliced(last.end, last.end, f",{before}{member}")

    def _object(self, key: str, raw: str, depth: int) -> str:
        return f"{{{self._break(depth)}{json.dumps(key)}{self._colon()}{raw}{self._break(depth - 1)}}}"

    def _break(self, depth: int) -> str:
        """A line's end and the indentation of members at this depth; empty in a document of one line."""
        top = _read(self.text, _skip(self.text, 0))
        before = self.text[top.start + 1 : top.members[0].start] if top.members else f"\n{_INDENT}"
        if "\n" not in before:
            return ""
        return ("\r\n" if "\r\n" in self.text else "\n") + before.rpartition("\n")[2] * depth

    def _colon(self) -> str:
        top = _read(self.text, _skip(self.text, 0))
        return self.text[top.members[0].colon : top.members[0].value] if top.members else ": "

    def _block(self, keys: Keys) -> TextBlock | None:
        """The object that these keys lead to; None if a key is missing."""
        block = _read(self.text, _skip(self.text, 0))
        for key in keys:
            member = self._member(block, key)
            if member is None:
                return None
            if self.text[member.value] != "{":
                raise ValueError(f'line {self._line(member.value)}: "{key}" must be an object, in braces')
            block = _read(self.text, member.value)
        return block

    def _member(self, block: TextBlock, key: str) -> TextMember | None:
        found = [member for member in block.members if member.key == key]
        if len(found) > 1:
            raise ValueError(f'line {self._line(found[1].start)}: "{key}" is there twice')
        return found[0] if found else None

    def _line(self, place: int) -> int:
        return self.text.count("\n", 0, place) + 1


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANKS:
        place += 1
    return place


def _read(text: str, start: int) -> TextBlock:
    """The object whose brace opens there, in a text that is known to be JSON."""
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
