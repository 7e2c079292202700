"""`key=value` lines, which people and programs can read."""

import json
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["pairs", "quoted"]

_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")


def pairs(fields: Iterable[tuple[str, int | str | None]]) -> str:
    """Give the fields in one line: `a=1 b="two words"`. Fields with None are left out."""
    return " ".join([f"{name}={quoted(value)}" for name, value in fields if value is not None])


def quoted(value: int | str) -> str:
    """Give a plain word unchanged, and any other value as a JSON string in ASCII."""
    return json.dumps(value) if isinstance(value, str) and not _BARE.fullmatch(value) else str(value)
