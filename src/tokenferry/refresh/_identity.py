import os
import stat
from pathlib import Path
from typing import Final

from tokenferry.credentials import Federation
from tokenferry.errors import RefreshFailed
from tokenferry.secret import Secret

_MOST_BYTES: Final = 16 * 1024
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def read_identity(federation: Federation) -> Secret:
    """Read a workload's present identity token. Raises `RefreshFailed`.

    The platform owns its file and often makes it a world-readable symbolic link, so neither is refused here.
    """
    try:
        return Secret(_in_file(Path(federation.file).expanduser()) if federation.file else _in_variable(federation))
    except OSError as caught:
        fault = f"can't be read ({caught.strerror})"
    except ValueError as caught:
        fault = f"holds no usable identity token: {caught}"
    raise RefreshFailed(f"{federation.source} {fault}; it must hold what the workload's platform issued")


def _in_file(path: Path) -> str:
    descriptor = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        return _checked(os.read(descriptor, _MOST_BYTES + 1).decode("ascii", "replace"))
    finally:
        os.close(descriptor)


def _in_variable(federation: Federation) -> str:
    if (federation.variable or "") not in os.environ:
        raise ValueError("it isn't set for this process")
    return _checked(os.environ[federation.variable or ""])


def _checked(text: str) -> str:
    is_too_long = len(text) > _MOST_BYTES
    text = "" if is_too_long else text.strip()  # a traceback shows the locals of this frame
    if is_too_long:
        raise ValueError(f"it has more than {_MOST_BYTES // 1024} KiB")
    return text
