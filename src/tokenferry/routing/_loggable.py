"""Decides which of a client's strings may be written to logs and records."""

import re
from functools import lru_cache
from typing import Final

_LONGEST: Final = 128
_LONGEST_TEXT: Final = 500
TOKEN: Final = re.compile(r"(sk-|tf[ka]_|eyJ)[A-Za-z0-9._-]*")
"""A string that looks like a credential."""
_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")


@lru_cache(maxsize=4096)
def loggable(value: bytes | str) -> str | None:
    """Give a client's string if it has at most 128 harmless characters and no token; otherwise None."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if len(text) <= _LONGEST and _BARE.fullmatch(text) and not TOKEN.search(text) else None


@lru_cache(maxsize=4096)
def loggable_name(value: str) -> str | None:
    """Give a name that the configuration may contain if it is printable and holds no token; otherwise None."""
    return value if len(value) <= _LONGEST and value.isprintable() and not TOKEN.search(value) else None


def loggable_text(text: str) -> str:
    """Give a sentence with a client's strings, with tokens redacted."""
    return TOKEN.sub("[redacted]", text[:_LONGEST_TEXT])


@lru_cache(maxsize=256)
def loggable_path(path: bytes) -> str:
    """Give the beginning of a path, with tokens redacted."""
    return TOKEN.sub("[redacted]", path[:_LONGEST].decode("latin-1"))
