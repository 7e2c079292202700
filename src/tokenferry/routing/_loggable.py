"""What of a client's words may be written to logs and records."""

import re
from functools import lru_cache
from typing import Final

_LONGEST: Final = 128
_LONGEST_TEXT: Final = 500
TOKEN: Final = re.compile(r"(sk-|tf[ka]_|eyJ)[A-Za-z0-9._-]*")
"""What looks like a credential."""
_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")


@lru_cache(maxsize=4096)
def loggable(value: bytes | str) -> str | None:
    """A client's own word, if it may be logged: harmless characters, at most 128, nothing that looks like a token."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if len(text) <= _LONGEST and _BARE.fullmatch(text) and not TOKEN.search(text) else None


@lru_cache(maxsize=4096)
def loggable_name(value: str) -> str | None:
    """A name from the configuration, or from a client by way of it, if it may be logged: printable, and no token."""
    return value if len(value) <= _LONGEST and value.isprintable() and not TOKEN.search(value) else None


def loggable_text(text: str) -> str:
    """A sentence with a client's words in it, without what looks like a token."""
    return TOKEN.sub("[redacted]", text[:_LONGEST_TEXT])


@lru_cache(maxsize=256)
def loggable_path(path: bytes) -> str:
    """A path as it may be logged: its beginning, without what looks like a token."""
    return TOKEN.sub("[redacted]", path[:_LONGEST].decode("latin-1"))
