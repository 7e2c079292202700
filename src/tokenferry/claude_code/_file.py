"""Where Claude Code keeps its login on Linux."""

import contextlib
import re
import secrets
import shlex
import stat
import time
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from tokenferry.claude_code._home import ClaudeCodeHome
from tokenferry.errors import StorageFailed, UnsafeFile
from tokenferry.stores import DISK, Disk, HiddenBytes, remove_file

_LEFTOVER_AGE: Final = 3600.0


class CredentialsFile:
    """`.credentials.json`: a 0600 file. A write replaces it, with the temporary name that Claude Code uses.

    Reading refuses a symbolic link, too: a token that can't be written back must not be refreshed, and a linked file
    is often shared with another machine.
    """

    def __init__(self, home: ClaudeCodeHome, *, disk: Disk = DISK) -> None:
        self.path = home.credentials
        self._disk = disk

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self) -> bytes | None:
        """Its content; None if there is no such file. Raises `UnsafeFile`."""
        self._refuse_link()
        try:
            return self._disk.read(self.path)
        except FileNotFoundError:
            return None

    def check_writable(self, size: int) -> None:  # noqa: ARG002  # a file takes any size
        """Raise `UnsafeFile` for a symbolic link, `StorageFailed` where no rename can replace the file."""
        self._refuse_link()
        self._disk.check_replaceable(self.path)

    def _refuse_link(self) -> None:
        if self.path.is_symlink():
            target = self.path.resolve()
            move = f"mv {shlex.quote(str(target))} {shlex.quote(str(self.path))}"
            raise UnsafeFile(
                f"{self.path} is a symbolic link, which Claude Code's next write would replace; "
                f"put the file itself there with: {move}"
            )

    def write(self, data: bytes) -> None:
        """Replace it. Hold the write lock. Raises `StorageFailed`; then the old content is unchanged."""
        content = HiddenBytes(data)
        del data  # a traceback shows the locals of this frame
        self._refuse_link()
        self._remove_leftovers()
        temporary = self.path.with_name(f"{self.path.name}.tmp.{secrets.token_hex(4)}")
        self._create(temporary, content)
        try:
            self._install(temporary)
        except StorageFailed:
            self._drop(temporary)
            raise

    def stage(self, data: bytes) -> None:
        """Write a successor beside it. While the successor exists, `install` was not carried out.

        When it is gone, `install` was carried out, however the content has changed since: the rename is atomic.
        Hold the write lock. Raises `StorageFailed`.
        """
        content = HiddenBytes(data)
        del data  # a traceback shows the locals of this frame
        self._refuse_link()
        self.unstage()
        self._create(self._successor, content)
        try:
            self._disk.sync_folder(self.path.parent)
        except OSError as fault:
            self.unstage()
            raise StorageFailed(f"{self._successor} could not be written: {fault.strerror}") from None

    def install(self) -> None:
        """Replace the file with the staged successor, which stays if that fails. Raises `StorageFailed`."""
        self._install(self._successor)

    def is_staged(self) -> bool:
        return self._successor.name in self._disk.names(self.path.parent)

    def unstage(self) -> None:
        """Remove a staged successor, if there is one. Raises `StorageFailed`."""
        remove_file(self._successor, disk=self._disk)

    @property
    def _successor(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tokenferry")

    def _create(self, path: Path, content: HiddenBytes) -> None:
        try:
            descriptor = self._disk.create(path)
            try:
                try:
                    self._disk.write(descriptor, content)
                    self._disk.fsync(descriptor)
                finally:
                    self._disk.close(descriptor)
            except OSError:
                self._drop(path)
                raise
        except OSError as fault:
            raise StorageFailed(
                f"{self.path} could not be written: {fault.strerror}; the old content is unchanged"
            ) from None

    def _install(self, temporary: Path) -> None:
        try:
            self._disk.rename(temporary, self.path)
        except OSError as fault:
            raise StorageFailed(
                f"{self.path} could not be written: {fault.strerror}; the old content is unchanged"
            ) from None
        with contextlib.suppress(OSError):  # it is in place, for Claude Code too: no reason to write it again
            self._disk.sync_folder(self.path.parent)

    def _drop(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            self._disk.unlink(path)

    def stamp(self) -> Hashable | None:
        """A value that changes when the file is replaced; None without a file."""
        try:
            status = self.path.lstat()
        except OSError:
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)

    def _remove_leftovers(self) -> None:
        """Remove temporary files with secrets that writers killed an hour ago or more left behind."""
        pattern = re.compile(re.escape(f"{self.path.name}.tmp.") + "[0-9a-f]{8}")
        for name in filter(pattern.fullmatch, self._disk.names(self.path.parent)):
            with contextlib.suppress(OSError):
                status = self.path.with_name(name).lstat()
                if stat.S_ISREG(status.st_mode) and status.st_mtime < time.time() - _LEFTOVER_AGE:
                    self._disk.unlink(self.path.with_name(name))
