import contextlib
import logging
import os
import stat
from pathlib import Path

from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.stores import DISK, Disk

logger = logging.getLogger(__name__)


class LockDirectory:
    """A lock that is a directory: its creator holds it, and updates its modification time as a sign of life.

    This is the protocol of npm's `proper-lockfile`. An open descriptor reserves the inode number, so that another
    program's new directory can't be mistaken for ours.
    """

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        self.path = path
        self._disk = disk
        self._descriptor: int | None = None
        self._mtime_ns = 0
        self._is_lost = False

    def make(self) -> os.stat_result | None:
        """Take the lock; if another program holds it, give the status of its directory.

        Raises `UnsafeFile` if that isn't a directory, `StorageFailed` if none can be made.
        """
        while True:
            try:
                self._disk.make_directory(self.path)
                break
            except FileExistsError:
                try:
                    status = self._disk.status(self.path)
                except FileNotFoundError:
                    continue  # released in between
            except OSError as fault:
                raise StorageFailed(f"the lock {self.path} can't be made: {fault.strerror}") from None
            if not stat.S_ISDIR(status.st_mode):
                raise UnsafeFile(
                    f"{self.path} is not a directory, as Claude Code's locks are, so no program can refresh its login; "
                    f"end its sessions, then remove it with: rm '{self.path}'"
                )
            return status
        try:
            self._descriptor = self._disk.open_directory(self.path)
            self.touch()
        except OSError as fault:
            self.forget()
            with contextlib.suppress(OSError):
                self._disk.remove_directory(self.path)
            raise StorageFailed(f"the lock {self.path} can't be kept: {fault.strerror}") from None
        return None

    def touch(self) -> None:
        """Show that the holder runs. Raises `OSError`."""
        assert self._descriptor is not None
        self._disk.touch(self._descriptor)
        self._mtime_ns = self._disk.status(self._descriptor).st_mtime_ns  # in the file system's resolution

    def is_ours(self) -> bool:
        """Whether it is held, and no other process has removed, replaced or touched it since."""
        if self._descriptor is None:
            return False
        if not self._is_lost and not self._is_unchanged():
            self._is_lost = True
            logger.warning("the lock %s was taken over by another program", self.path)
        return not self._is_lost

    def remove(self) -> None:
        """Release the lock. It stays if another process has taken it over."""
        if self._descriptor is None:
            return
        if self.is_ours():
            try:
                self._disk.remove_directory(self.path)
            except OSError as fault:
                logger.warning("the lock %s can't be removed, so others will wait: %s", self.path, fault.strerror)
        self.forget()

    def forget(self) -> None:
        """Close the descriptor and leave the directory."""
        self._is_lost = False
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                self._disk.close(descriptor)

    def _is_unchanged(self) -> bool:
        assert self._descriptor is not None
        try:
            there, held = self._disk.status(self.path), self._disk.status(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_mtime_ns) == (held.st_dev, held.st_ino, self._mtime_ns)

    def clear(self, seen: os.stat_result) -> bool:
        """Remove another program's stale lock if it is as seen. Gives whether it is gone. Raises `UnsafeFile`."""
        try:
            there = self._disk.status(self.path)
            if (there.st_dev, there.st_ino, there.st_mtime_ns) != (seen.st_dev, seen.st_ino, seen.st_mtime_ns):
                return False
            self._disk.remove_directory(self.path)
        except FileNotFoundError:
            return True
        except OSError as fault:
            raise UnsafeFile(
                f"the lock {self.path} was left behind and can't be removed: {fault.strerror}; end Claude Code's "
                f"sessions, then remove it with: rm -r '{self.path}'"
            ) from None
        return True
