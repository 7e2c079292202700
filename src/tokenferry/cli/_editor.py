import os
import shlex
import subprocess
from pathlib import Path

from tokenferry.errors import UsageError


def edit_file(path: Path) -> int:
    """Let a person change a file in $VISUAL, else $EDITOR, else vi; give the editor's exit code.

    Raises `UsageError` where there is none.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        command = shlex.split(named)
        return subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603  # the user's own editor
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise UsageError(f"the editor {named!r} can't be started ({reason}); name another in VISUAL") from None
