"""What a person types or a program pipes in; never what stands on the command line, which every process can read."""

import getpass
import sys
from typing import Final

from tokenferry.errors import UsageError

_LIMIT: Final = 1024 * 1024


def read_secret(what: str) -> bytes:
    """The secret from stdin, or from a prompt that doesn't show it. Raises `UsageError` when there is none."""
    if sys.stdin is None:
        raise UsageError(f"stdin is closed; pipe the {what} in, or run this in a terminal to be asked for it")
    if sys.stdin.isatty():
        try:
            raw = getpass.getpass(f"{what} (not shown): ").encode("utf-8", "surrogateescape")
        except EOFError:
            raw = b""
    else:
        raw = sys.stdin.buffer.read(_LIMIT + 1)
    if not raw.strip():
        raise UsageError(f"no {what} was given; pipe it in, or run this in a terminal to be asked for it")
    if len(raw) > _LIMIT:
        raise UsageError(f"what was piped in is longer than any {what}")
    return raw


def confirmed(question: str, *, flag: str) -> bool:
    """Ask a yes-or-no question in a terminal. Raises `UsageError`, naming the flag to give, where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"this needs a yes, and stdin is no terminal to ask in; give {flag} if you mean it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
