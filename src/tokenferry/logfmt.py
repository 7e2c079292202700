"""`key=value` lines, the form of a log that both people and programs read."""

import json
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["pairs", "quoted"]

_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")


def pairs(fields: Iterable[tuple[str, int | str | None]]) -> str:
    """The fields in one line: `a=1 b="two words"`. Those whose value is None are left out."""
    return " ".join([f"{name}={quoted(value)}" for name, value in fields if value is not None])


def quoted(value: int | str) -> str:
    """A value as it is if it is a plain word, else as a JSON string: no control character, nothing beyond ASCII."""
    return json.dumps(value) if isinstance(value, str) and not _BARE.fullmatch(value) else str(value)
