"""Reads and writes files that hold secrets, on POSIX systems."""

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Final

from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.manifest import depend_on
from tokenferry.secret import HiddenBytes
from tokenferry.stores._replaceable import check_replaceable

MAX_BYTES: Final = 4 * 1024 * 1024
_TEMPORARY: Final = ".tmp."
_PRIVATE: Final = 0o600


def reason_of(fault: OSError) -> str:
    """Say why a write failed, with a fix if the system's message has none."""
    if fault.errno == errno.EROFS:
        return f"{fault.strerror} (mount it writable, or name another home with TOKENFERRY_HOME)"
    return str(fault.strerror)


def read_private_file(path: Path, *, readable_by_others: bool = False, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file that only its owner may read and write.

    Raises `FileNotFoundError`, and `UnsafeFile` for a symlink, a FIFO or another non-file, another owner, and modes
    that let others read it (or only write it, with `readable_by_others`) or replace it in its folder.
    """
    check_folder(path.parent)
    depend_on("file", path)
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            raise UnsafeFile(f"{path} is a symbolic link; put the file itself there") from None
        raise UnsafeFile(f"{path} can't be opened: {fault.strerror}") from None
    try:
        check_status(path, os.fstat(descriptor), readable_by_others=readable_by_others)
        with open(descriptor, "rb", closefd=False) as file:
            data = HiddenBytes(file.read(max_bytes + 1))
    except OSError as fault:
        raise UnsafeFile(f"{path} can't be read: {fault.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise UnsafeFile(f"{path} is larger than {max_bytes} bytes, which no file of this kind is")
    return data


def check_status(path: Path, status: os.stat_result, *, readable_by_others: bool = False) -> None:
    """Raise `UnsafeFile`, with the command that fixes it, unless the file is regular, ours and private."""
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile(f"{path} is not a regular file; name a file, or move it away")
    if status.st_uid != os.geteuid() and not (readable_by_others and status.st_uid == 0):
        raise UnsafeFile(f"{path} belongs to user {status.st_uid}; fix it with: chown {os.geteuid()} '{path}'")
    forbidden = 0o022 if readable_by_others else 0o077
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        wanted = mode & ~forbidden if readable_by_others else 0o600
        verb = "written" if readable_by_others else "read"
        raise UnsafeFile(
            f"{path} has mode {mode:04o} and could be {verb} by others; fix it with: chmod {wanted:04o} '{path}'"
        )


def check_folder(path: Path) -> None:
    """Raise `UnsafeFile` if others could replace files in this folder."""
    depend_on("folder", path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise UnsafeFile(f"{path} can't be examined: {fault.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFile(f"{path} can't be opened: Not a directory; name a folder, or move it away")
    if status.st_uid not in {os.geteuid(), 0}:
        raise UnsafeFile(f"the folder {path} belongs to user {status.st_uid}, who could replace the files in it")
    if status.st_mode & 0o022:
        if status.st_mode & stat.S_ISVTX:
            raise UnsafeFile(f"the folder {path} is shared with other users; keep the file in a folder of your own")
        mode = stat.S_IMODE(status.st_mode)
        raise UnsafeFile(
            f"the folder {path} has mode {mode:04o}, so others could replace the files in it; "
            f"fix it with: chmod {mode & ~0o022:04o} '{path}'"
        )


def make_private_folder(path: Path) -> None:
    """Make the folder with mode 0700, and missing ones above it. Raises `UnsafeFile`, `StorageFailed`."""
    missing = [path]
    try:
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o700)
                folder.chmod(0o700)  # whatever the umask
    except OSError as fault:
        raise StorageFailed(f"the folder {path} can't be made: {reason_of(fault)}") from None
    check_folder(path)


class Disk:
    """The file operations of a store and of the journal, one system call each.

    A simulation replaces it by one that loses, delays or refuses them.
    """

    def read(self, path: Path) -> bytes:
        """Read a private file; see `read_private_file`."""
        return read_private_file(path)

    def make_folder(self, path: Path) -> None:
        make_private_folder(path)

    def create(self, path: Path) -> int:
        """Create a file with mode 0600, whatever the umask; give its descriptor."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        return descriptor

    def open(self, path: Path) -> int:
        """Open an existing file for writing in place."""
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        view = memoryview(data)
        del data  # a traceback shows the locals of this frame
        while view:
            written = os.pwrite(descriptor, view, offset)
            offset += written
            view = view[written:]

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def check_replaceable(self, path: Path) -> None:
        """Raise `StorageFailed`, with the fix, if a rename can't replace the file. Writes nothing."""
        check_replaceable(path)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Make a directory that must not exist yet."""
        path.mkdir()

    def remove_directory(self, path: Path) -> None:
        path.rmdir()

    def open_directory(self, path: Path) -> int:
        """Open a directory; while the descriptor is open, its inode number isn't used again."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def touch(self, descriptor: int) -> None:
        """Set the modification time to the present wall clock."""
        now = time.time_ns()
        os.utime(descriptor, ns=(now, now))

    def status(self, what: Path | int) -> os.stat_result:
        """Give the status of a path, without following links, or of a descriptor's file."""
        return os.fstat(what) if isinstance(what, int) else os.lstat(what)

    def sync_folder(self, path: Path) -> None:
        """Make renames and removals in this folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, folder: Path) -> list[str]:
        """Give the names in a folder, sorted; empty if it is missing. Raises `StorageFailed`."""
        depend_on("listing", folder)
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise StorageFailed(f"the folder {folder} can't be listed: {fault.strerror}") from None

    def stamps(self, folder: Path) -> dict[str, tuple[int, ...]]:
        """Give, by name, a value that changes when a file of this folder is replaced."""
        stamps: dict[str, tuple[int, ...]] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # a writer's temporary file goes at any moment
                        one = entry.stat(follow_symlinks=False)
                        stamps[entry.name] = (one.st_ino, one.st_mtime_ns, one.st_size, one.st_mode)
        except FileNotFoundError:
            return {}
        return stamps


DISK: Final = Disk()


def replace_private_file(path: Path, data: bytes, *, mode: int = _PRIVATE, disk: Disk = DISK) -> None:
    """Replace a file atomically and durably: afterwards the old or the new content is there, whole.

    It has mode 0600 until it is complete, then its final mode. Raises `StorageFailed` if the disk is full or read-only;
    then the old content remains, unless the message says otherwise.
    """
    content = HiddenBytes(data)
    del data  # a traceback shows the locals of this frame
    disk.make_folder(path.parent)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}{secrets.token_hex(4)}")
    try:
        descriptor = disk.create(temporary)
        try:
            try:
                disk.write(descriptor, content)
                if mode != _PRIVATE:
                    os.fchmod(descriptor, mode)
                disk.fsync(descriptor)
            finally:
                disk.close(descriptor)
            disk.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)
            raise
    except OSError as fault:
        raise StorageFailed(f"{path} could not be written: {reason_of(fault)}; the old content is unchanged") from None
    try:
        disk.sync_folder(path.parent)
    except OSError as fault:
        raise StorageFailed(
            f"{path} is written, but may be the old one again after a power cut: {fault.strerror}"
        ) from None


def remove_file(path: Path, *, disk: Disk = DISK) -> None:
    """Remove a file durably; do nothing if it is missing. Raises `StorageFailed`."""
    try:
        disk.unlink(path)
        disk.sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise StorageFailed(f"{path} could not be removed: {reason_of(fault)}") from None


def remove_leftovers(path: Path, *, disk: Disk = DISK) -> None:
    """Remove temporary files that a killed writer of this file left. Only for the holder of its lock."""
    prefix = f".{path.name}{_TEMPORARY}"
    for name in disk.names(path.parent):
        if name.startswith(prefix):
            with contextlib.suppress(OSError):
                disk.unlink(path.with_name(name))
