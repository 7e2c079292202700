"""Names and ids that another format takes. The same one becomes the same one in every turn, which finds it known."""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

_SHORT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_LETTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGEST: Final = 8


@lru_cache(maxsize=4096)
def call_id(known: str, form: Literal["short", "nine", "any"]) -> str:
    """The id of a tool call in the form that a format or vendor takes."""
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
    """The name of a tool, shortened if it is too long, and with a digest if it was changed at all."""
    if len(name) <= longest and _ID.fullmatch(name):
        return name
    plain = _ODD.sub("_", name)
    return f"{plain[: longest - _DIGEST - 1]}_{_digest(name, _DIGEST)}"


def changed_names(names: Iterable[str], longest: int) -> dict[str, str]:
    """The names that `tool_name` changes, by what it makes of them."""
    return {short: name for name in names if (short := tool_name(name, longest)) != name}


def made_up_id(answer: str, number: int) -> str:
    """An id for a call that came without: of the answer with this id, its call with this number."""
    return f"call_{_digest(f'{answer} {number}', 24)}"


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]
