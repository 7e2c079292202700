import os
import shlex
import subprocess
import sys
from pathlib import Path

from tokenferry.errors import UsageError


def edit_file(path: Path) -> int:
    """Let a person change a file in $VISUAL, else $EDITOR, else vi; give the editor's exit code.

    Raises `UsageError` where there is none.
    """
    if not (os.environ.get("VISUAL") or os.environ.get("EDITOR") or (sys.stdin and sys.stdin.isatty())):
        raise UsageError("there is no terminal for an editor; change settings with: tokenferry config set KEY VALUE")
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(named)
        return subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603  # the user's own editor
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UsageError(f"the editor {named!r} can't be started ({reason}); name another in VISUAL") from None
