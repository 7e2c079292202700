"""The place of config.toml: in the home, or at the target of a symbolic link, as dotfile managers make it."""

import os
import stat
from pathlib import Path
from typing import Final

from tokenferry.errors import UnsafeFile
from tokenferry.manifest import depend_on
from tokenferry.stores import read_private_file

_MOST_LINKS: Final = 40


def read_config_file(path: Path) -> bytes:
    """Read the file; a symbolic link is followed once.

    Raises `FileNotFoundError`, and `UnsafeFile` if another user can write or replace the file or a folder on the way to
    it.
    """
    target = target_of(path)
    try:
        return read_private_file(target, readable_by_others=True)
    except FileNotFoundError:
        if target == path:
            raise
        raise UnsafeFile(
            f"{path} is a symbolic link to {target}, which doesn't exist; restore that, or remove the link"
        ) from None


def target_of(path: Path) -> Path:
    """Give the file that is read and written: the path, or the target of a link there. Raises `UnsafeFile`."""
    depend_on("file", path)
    try:
        status = path.lstat()
    except OSError:
        return path  # its reader gets the error
    if not stat.S_ISLNK(status.st_mode):
        return path
    if status.st_uid not in {os.geteuid(), 0}:
        raise UnsafeFile(f"{path} is a symbolic link of user {status.st_uid}; remove it, and put the file itself there")
    path = path.absolute()
    target = Path(os.path.join(path.parent, os.readlink(path)))  # noqa: PTH115, PTH118  # ".." must stay as it is
    for one in (path, target):
        _check_folders(one)
    if target.is_symlink():
        raise UnsafeFile(
            f"{path} is a symbolic link to {target}, which is one, too; make the first one name the file itself"
        )
    return target


def _check_folders(path: Path) -> None:
    """Raise `UnsafeFile` if another user can replace the file or a folder on the way to it."""
    folder = Path(path.anchor)
    left = list(path.parts[1:-1])[::-1]
    links = 0
    _check_folder(folder)
    while left:
        part = left.pop()
        if part == "..":
            folder = folder.parent
            continue
        entry = folder / part
        try:
            is_link = stat.S_ISLNK(entry.lstat().st_mode)
        except OSError as fault:
            raise UnsafeFile(f"{entry}, on the way to {path}, can't be examined: {fault.strerror}") from None
        if is_link:
            depend_on("file", entry)
            links += 1
            if links > _MOST_LINKS:
                raise UnsafeFile(f"too many symbolic links are on the way to {path}")
            aim = Path(entry.readlink())
            left += [part for part in aim.parts if part != aim.anchor][::-1]
            folder = Path(aim.anchor) if aim.is_absolute() else folder
            continue
        folder = entry
        _check_folder(folder)


def _check_folder(folder: Path) -> None:
    depend_on("folder", folder)
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in {os.geteuid(), 0}:
        raise UnsafeFile(
            f"the folder {folder} belongs to user {status.st_uid}, who could replace the configuration below it; keep "
            "config.toml elsewhere"
        )
    # In a sticky folder like /tmp no user replaces what belongs to others.
    if mode & 0o022 and not (mode & stat.S_ISVTX):
        raise UnsafeFile(
            f"the folder {folder} has mode {mode:04o}, so others could replace the configuration below it; change it "
            f"with: chmod {mode & ~0o022:04o} '{folder}'"
        )
