"""The operator's statement that a Claude subscription is theirs alone: a small dated file in the home."""

import json
from pathlib import Path
from typing import Final

from tokenferry.credentials import epoch_seconds
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import parse_object
from tokenferry.stores import read_private_file, remove_file, replace_private_file

__all__ = ["LOGIN_REFUSED", "MEANING", "STATEMENT", "TERMS", "state", "stated_at", "withdraw"]

TERMS: Final = "https://code.claude.com/docs/en/legal-and-compliance"
MEANING: Final = (
    "Anthropic's terms limit subscription logins (Free, Pro, Max) and setup tokens to Claude Code and the vendor's own",
    'applications. A version of its page stored in February 2026 says that their use "in any other product, tool, or',
    'service" is not permitted. Read the page as it is now:',
)
"""The meaning of the statement, in lines for a terminal; the address of the page follows."""
LOGIN_REFUSED: Final = (
    "a Claude subscription's login is for Claude Code alone, unless a person states on a terminal that the "
    "subscription is theirs alone and that they read the vendor's terms; do so with: tokenferry policy set own-use"
)
STATEMENT: Final = "The subscription is mine alone, and I have read the vendor's terms."


def stated_at(path: Path) -> int | None:
    """When it was stated, in seconds since 1970 UTC; None if it wasn't. Raises `CorruptFile`, `UnsafeFile`."""
    try:
        fields = parse_object(read_private_file(path))
    except FileNotFoundError:
        return None
    try:
        if fields is not None and fields.get("subscription") == "own":
            return epoch_seconds(fields.get("stated_at"))
    except UsageError:
        pass
    raise CorruptFile(f"{path} can't be understood; remove it, and state it again with: tokenferry policy set own-use")


def state(path: Path, now: float) -> None:
    """Write the statement with the date. Raises `StorageFailed`, `UnsafeFile`."""
    fields = {"subscription": "own", "stated_at": int(now), "statement": STATEMENT, "terms": TERMS}
    replace_private_file(path, json.dumps(fields, indent=1).encode("ascii") + b"\n")


def withdraw(path: Path) -> None:
    """Withdraw the statement. Raises `StorageFailed`."""
    remove_file(path)
