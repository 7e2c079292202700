import errno
import os
import stat
from pathlib import Path
from typing import Final

from tokenferry.config._place import read_config_file, target_of
from tokenferry.errors import Conflict, StorageFailed
from tokenferry.stores import DISK, Disk, FileLock, replace_private_file

_PRIVATE: Final = 0o600
_SECONDS: Final = 10.0
_CURE: Final = "change it where it comes from, and running gateways take that up"


def read_content(path: Path) -> bytes | None:
    """Give the file's content; None if it is missing. Raises `UnsafeFile`."""
    try:
        return read_config_file(path)
    except FileNotFoundError:
        return None


def write_content(path: Path, content: bytes, expected: bytes | None, locks: Path, *, disk: Disk = DISK) -> None:
    """Replace the file's content, if it is still the one that was read (None: no file).

    The write is atomic. The file keeps its mode; a new one is 0600. At a symbolic link its target is written. Raises
    `Conflict` if the content has changed, `StorageFailed`, `UnsafeFile`.
    """
    check_writable(path)
    with FileLock(path, locks).held(_SECONDS):
        if read_content(path) != expected:
            raise Conflict(f"{path} was changed by another program; look at it, then try again")
        target = target_of(path)
        mode = _PRIVATE if expected is None else stat.S_IMODE(target.stat().st_mode)
        try:
            replace_private_file(target, content, mode=mode, disk=disk)
        except StorageFailed as fault:
            if isinstance(fault.__context__, OSError) and fault.__context__.errno == errno.EBUSY:
                raise StorageFailed(f"{path} can't be written: it is a mount of its own; {_CURE}") from None
            raise


def check_writable(path: Path) -> None:
    """Raise `StorageFailed` with the reason if the file can't be replaced, `UnsafeFile`."""
    path = target_of(path)
    folder = next(each for each in path.absolute().parents if each.exists())
    for place in (folder, path):
        if place.exists() and (fault := _fault(place)):
            raise StorageFailed(f"{path} can't be written: {place} {fault}; {_CURE}")


def _fault(place: Path) -> str | None:
    try:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return "is mounted read-only"
    except OSError as fault:
        return f"can't be examined ({fault.strerror})"
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        return "is a folder that this user can't write to"
    return None
