"""The input of a chain: an environment, and files, which are only read."""

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from tokenferry.claude_code import ClaudeCodeHome
from tokenferry.secret import Concealing
from tokenferry.stores import HiddenBytes

_MANAGED: Final = Path(
    "/Library/Application Support/ClaudeCode/managed-settings.json"
    if sys.platform == "darwin"
    else "/etc/claude-code/managed-settings.json"
)
_MOST_BYTES: Final = 4 * 1024 * 1024


class Seen(Concealing, frozen=True):
    """A path as it was found; `real` is the path after all links."""

    hidden: ClassVar = ("content",)

    path: Path
    real: Path
    kind: Literal["file", "absent", "other", "unreadable"] = "absent"
    mode: int = 0
    is_link: bool = False
    content: bytes = b""
    fault: str = ""


class Machine(Concealing, frozen=True):
    """`home` is the person's home directory, `folder` the working directory, `now` in seconds since 1970 UTC."""

    hidden: ClassVar = ("environ",)

    environ: Mapping[str, str]
    home: Path
    folder: Path
    now: float
    look: Callable[[Path], Seen]
    platform: str = os.name
    managed: Path = _MANAGED
    """The file with which an organisation manages Claude Code."""
    keychain: Callable[[ClaudeCodeHome], bytes | None] | None = None
    """Reads Claude Code's login where it is stored in a Keychain."""

    def variable(self, name: str) -> str | None:
        """A variable's value; None if it is missing or empty."""
        return self.environ.get(name) or None


def look(path: Path) -> Seen:
    """Look at a path. Raises nothing: every fault is part of the result."""
    try:
        real = path.resolve()
        is_link = path.is_symlink()
    except (OSError, RuntimeError, ValueError) as fault:
        return Seen(path, path, "unreadable", fault=_reason(fault))
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Seen(path, real, is_link=is_link)
    except (OSError, ValueError) as fault:
        return Seen(path, real, "unreadable", is_link=is_link, fault=_reason(fault))
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            return Seen(path, real, "other", mode, is_link, fault="it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = HiddenBytes(file.read(_MOST_BYTES))
    except OSError as fault:
        return Seen(path, real, "unreadable", is_link=is_link, fault=_reason(fault))
    finally:
        os.close(descriptor)
    return Seen(path, real, "file", mode, is_link, content)


def _reason(fault: Exception) -> str:
    return str(getattr(fault, "strerror", None) or "its path can't be followed").lower()
