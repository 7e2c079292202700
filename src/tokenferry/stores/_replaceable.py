"""Finds out whether a rename can replace a file, without writing anything."""

import os
import re
import shlex
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenferry.errors import StorageFailed

_ROOM: Final = 64 * 1024
_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS, ioctl_iflags(2)
_IMMUTABLE: Final = 0x10
_APPEND_ONLY: Final = 0x20


def check_replaceable(path: Path, *, mount_table: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise `StorageFailed`, with the fix, if no rename can replace this file.

    Reasons are a bind-mounted, immutable or read-only file, a folder that may not be written or is sticky and another
    user's, and a full file system. What can't be found out isn't a reason. The file may be missing.
    """
    if fault := next(_faults(path, mount_table), None):
        raise StorageFailed(f"{path} can't be replaced: {fault}")


def _faults(path: Path, mount_table: Path) -> Iterator[str]:
    folder, user = path.parent, os.geteuid()
    try:
        above, space = folder.stat(), os.statvfs(folder)
    except OSError:
        return  # it is not there yet, or its reader says what is wrong
    try:
        status: os.stat_result | None = path.lstat()
    except OSError:
        status = None
    if status is not None and _is_mounted(path, status, above, mount_table):
        yield f"it is a mount point of its own; mount its folder {folder} instead of the file"
    if space.f_flag & os.ST_RDONLY:
        yield f"its file system is read-only; mount it writable: {folder}"
    for one in (path, folder):
        if _flags(one) & (_IMMUTABLE | _APPEND_ONLY):
            yield f"{one} is immutable or append-only; clear that with: chattr -i -a {shlex.quote(str(one))}"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield f"its folder can't be written; allow it with: chmod u+rwx {shlex.quote(str(folder))}"
    is_ours = user in {0, above.st_uid} or status is None or status.st_uid == user
    if above.st_mode & stat.S_ISVTX and not is_ours:
        yield f"its folder is sticky and neither is yours; take it over with: chown {user} {shlex.quote(str(path))}"
    free = space.f_bfree if user == 0 else space.f_bavail
    needed = (0 if status is None else status.st_size) + _ROOM
    if free * space.f_frsize < needed or (space.f_files > 0 and space.f_ffree == 0):
        yield f"its file system has no room for a temporary file of {needed} bytes; make room there"


def _is_mounted(path: Path, status: os.stat_result, above: os.stat_result, mount_table: Path) -> bool:
    """Tell whether the file is a mount point, which its device number doesn't show for a bind mount."""
    if status.st_dev != above.st_dev:
        return True
    try:
        table = mount_table.read_bytes()
    except OSError:
        return False
    place = os.fsencode(Path(os.path.realpath(path.parent)) / path.name)
    points = (line.split(b" ")[4:5] for line in table.splitlines())
    return any(unescaped(point[0]) == place for point in points if point)


def unescaped(point: bytes) -> bytes:
    """Give a mount point without the octal escapes of proc_pid_mountinfo(5)."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes((int(found[1], 8) & 0xFF,)), point)


def _flags(path: Path) -> int:
    """Give the file's attributes that forbid to replace it; 0 without any, or if they are unknown."""
    if sys.platform != "linux":
        flags = getattr(os.lstat(path), "st_flags", 0)
        immutable = stat.UF_IMMUTABLE | stat.SF_IMMUTABLE | stat.UF_APPEND | stat.SF_APPEND
        return _IMMUTABLE if flags & immutable else 0
    import fcntl  # noqa: PLC0415  # POSIX alone has it

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        buffer = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        flags: int = struct.unpack_from("=I", buffer)[0]
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return flags
