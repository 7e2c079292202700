"""Names and ids in the form that another format accepts. Each is always changed in the same way, turn after turn."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from tokenferry.errors import Unfit

IdForm: TypeAlias = Literal["short", "nine", "any"]
"""What ids of calls a format accepts: at most 40 characters, exactly nine letters and digits, or any length."""

_SHORT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_LETTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGEST: Final = 8


@lru_cache(maxsize=4096)
def call_id(known: str, form: IdForm) -> str:
    """Give the id of a tool call in the form that a format or vendor accepts."""
    if form == "nine":
        number, letters = int.from_bytes(hashlib.sha256(known.encode("utf-8", "replace")).digest()[:8]), ""
        for _ in range(9):
            number, digit = divmod(number, len(_LETTERS))
            letters += _LETTERS[digit]
        return letters
    pattern = _SHORT_ID if form == "short" else _ID
    return known if pattern.fullmatch(known) else f"call_{_digest(known, 24)}"


@lru_cache(maxsize=4096)
def tool_name(name: str, longest: int) -> str:
    """Give the name of a tool in at most `longest` letters, digits, `_` and `-`. A changed name ends with a digest."""
    if len(name) <= longest and _ID.fullmatch(name):
        return name
    return with_digest(name, longest)


def with_digest(name: str, longest: int) -> str:
    """Give a changed name in at most `longest` letters, digits, `_` and `-`, which no other name becomes."""
    return f"{_ODD.sub('_', name)[: longest - _DIGEST - 1]}_{_digest(name, _DIGEST)}"


def changed_names(names: Iterable[str], longest: int) -> dict[str, str]:
    """Give the names that `tool_name` changes, by their changed form."""
    return {short: name for name in names if (short := tool_name(name, longest)) != name}


def made_up_id(answer: str, number: int) -> str:
    """Give an id for a call that came without one, by the id of the answer and the number of the call."""
    return f"call_{_digest(f'{answer} {number}', 24)}"


class AnswerIds:
    """The ids of an answer's calls for a client of the Messages API: each in its letters, and none twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, answer: str, known: str | None) -> str:
        """Give the id of the next call, by its id at the upstream, if it has one, and the id of the answer."""
        found = call_id(known, "any") if known else ""
        if not found or found in self._given:
            found = made_up_id(answer, len(self._given))
        self._given.add(found)
        return found


class PendingCalls:
    """The tool calls of a conversation that have no result yet. Each call must have exactly one, right after it."""

    def __init__(self, form: IdForm) -> None:
        self._form = form
        self._ids: dict[str, str] = {}
        """The ids of the client, by the ids that are sent."""

    def __bool__(self) -> bool:
        return bool(self._ids)

    def add(self, known: str) -> str:
        """Add a call, and give its id to be sent. Raises `Unfit` for a second call with the same id."""
        sent = call_id(known, self._form)
        if sent in self._ids:
            raise Unfit(f"two tool calls have the id {known[:80]!r}")
        self._ids[sent] = known
        return sent

    def answer(self, known: str) -> str:
        """Remove the call that a result answers, and give its id to be sent. Raises `Unfit` if there is none."""
        sent = call_id(known, self._form)
        if self._ids.pop(sent, None) is None:
            raise Unfit(f"the result of the tool call {known[:80]!r} has no call right before it, or is the second")
        return sent

    def check(self) -> None:
        """Raise `Unfit` if a call has no result."""
        if self._ids:
            raise Unfit(f"the tool call {next(iter(self._ids.values()))[:80]!r} has no result right after it")


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]
