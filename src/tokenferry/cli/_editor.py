import os
import shlex
import subprocess
import sys
from pathlib import Path

from tokenferry.errors import UsageError


def edit_file(path: Path) -> int:
    """Open a file in $VISUAL, else $EDITOR, else vi, and give the exit code. Raises `UsageError` if it can't start."""
    if not (os.environ.get("VISUAL") or os.environ.get("EDITOR") or (sys.stdin and sys.stdin.isatty())):
        raise UsageError("there is no terminal for an editor; change settings with: tokenferry config set KEY VALUE")
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(named)
        return subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603  # the user's own editor
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UsageError(f"the editor {named!r} can't be started ({reason}); name another in VISUAL") from None
