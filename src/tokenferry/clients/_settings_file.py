import contextlib
import os
import secrets
import shlex
import stat
from codecs import BOM_UTF8
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.clients._settings_text import HiddenText, SettingsText
from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnsafeFile
from tokenferry.stores import HiddenBytes, make_private_folder, remove_file

_MOST_BYTES: Final = 4 * 1024 * 1024
_NEW_MODE: Final = 0o600


class SettingsFile(Struct, frozen=True):
    """A settings file of another program. `path` is its name, `real` the target of a symbolic link."""

    path: Path
    real: Path
    syntax: type[SettingsText]
    program: str

    @classmethod
    def at(cls, path: Path, syntax: type[SettingsText], program: str) -> "SettingsFile":
        """Open the file of this name. Raises `UnsafeFile` for a link without a target."""
        try:
            real = path.resolve(strict=True) if path.is_symlink() else path.parent.resolve() / path.name
        except (OSError, RuntimeError):
            raise UnsafeFile(f"{path} is a symbolic link that leads nowhere; remove it, or make its target") from None
        return cls(path, real, syntax, program)

    def read(self) -> HiddenText | None:
        """Give its text without a byte order mark; None if it is missing. Raises `UnsafeFile`, `CorruptFile`."""
        data = self._data()
        if data is None:
            return None
        try:
            return HiddenText(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            del data  # a traceback shows the locals of this frame
        raise CorruptFile(f"{self.path} is not UTF-8, so {self.program} can't use it either; fix it first")

    def _data(self) -> HiddenBytes | None:
        try:
            descriptor = os.open(self.real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise UnsafeFile(f"{self.real} can't be opened: {fault.strerror}; look at it") from None
        try:
            self._check(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return HiddenBytes(file.read(_MOST_BYTES + 1))
        except OSError as fault:
            raise UnsafeFile(f"{self.real} can't be read: {fault.strerror}; look at it") from None
        finally:
            os.close(descriptor)

    def parse(self, text: str | None) -> SettingsText:
        """Give the settings in its text; none in a missing or empty file. Raises `CorruptFile` with the line."""
        if text is None or not text.strip():
            return self.syntax(self.syntax.EMPTY)
        try:
            return self.syntax(text)
        except ValueError as fault:
            raise self.unusable(fault) from None

    def unusable(self, fault: ValueError) -> CorruptFile:
        return CorruptFile(
            f"{self.path} can't be edited: {fault}; {self.syntax.RULE} for {self.program}; fix it, or add the lines by "
            "hand that --print shows"
        )

    def check_private(self) -> None:
        """Raise `UnsafeFile` if others can read the file, which will contain a key."""
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(self.real.stat().st_mode)
            if mode & 0o077:
                raise UnsafeFile(
                    f"{self.path} has mode {mode:04o}, and a key would be written to it; "
                    f"run: chmod 0600 {shlex.quote(str(self.real))}"
                )

    def write(self, text: str | None, *, expected: str | None) -> None:
        """Replace its text; mode and byte order mark stay. None removes the file.

        Raises `Conflict` if it no longer has the expected text, `StorageFailed`.
        """
        if self.read() != expected:
            raise Conflict(f"{self.path} was changed by another program; nothing was written; try again")
        if text is None:
            remove_file(self.real)
            return
        if not self.real.parent.exists():
            make_private_folder(self.real.parent)
        mark = BOM_UTF8 if (self._data() or b"").startswith(BOM_UTF8) else b""
        mode = _NEW_MODE if expected is None else stat.S_IMODE(self.real.stat().st_mode)
        temporary = self.real.with_name(f".{self.real.name}.tmp.{secrets.token_hex(4)}")
        try:
            self._replace(temporary, HiddenBytes(mark + text.encode("utf-8")), mode)
        except OSError as fault:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StorageFailed(f"{self.path} could not be written: {fault.strerror}; it is as it was") from None

    def _replace(self, temporary: Path, data: bytes, mode: int) -> None:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.replace(self.real)

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeFile(f"{self.real} is not a regular file; move it away")
        if status.st_uid != os.geteuid():
            raise UnsafeFile(f"{self.real} belongs to user {status.st_uid}; edit it as that user")
        if status.st_mode & stat.S_IWOTH:
            raise UnsafeFile(
                f"{self.real} can be written by every user, who could make {self.program} run a command; "
                f"run: chmod o-w {shlex.quote(str(self.real))}"
            )
        if status.st_size > _MOST_BYTES:
            raise UnsafeFile(f"{self.real} is larger than any settings file; look at it")
