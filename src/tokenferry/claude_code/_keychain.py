"""Where Claude Code keeps its login on macOS."""

import re
import subprocess
import time
from collections.abc import Callable, Hashable
from hashlib import sha256
from pathlib import Path
from typing import Final

from tokenferry.claude_code._home import ClaudeCodeHome
from tokenferry.errors import ConfigError, StorageFailed, TokenferryError, TryLater
from tokenferry.stores import HiddenBytes

_SECURITY: Final = Path("/usr/bin/security")
_NOT_FOUND: Final = 44
_LOCKED: Final = 36
_LINE_LIMIT: Final = 4096  # bytes that `security -i` reads of one line
_TIMEOUT: Final = 5.0
_STAMP_EVERY: Final = 10.0
_USER: Final = re.compile(r"[A-Za-z0-9._@+-]+")


class Keychain:
    """A generic password of the login Keychain, always read and written with `security`.

    A secret goes to it on stdin, in hexadecimal as Claude Code writes it, never in an argument. A document that is too
    long for the line that `security` reads is refused.
    """

    def __init__(
        self,
        home: ClaudeCodeHome,
        user: str,
        *,
        security: Path = _SECURITY,
        timeout: float = _TIMEOUT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not _USER.fullmatch(user):
            raise ConfigError(f"USER is {user!r}, which can't name a Keychain item; set it to your login name")
        self._service = home.keychain_service
        self._user = user
        self._security = security
        self._timeout = timeout
        self._monotonic = monotonic
        self._stamp: tuple[float, Hashable | None] | None = None

    @property
    def where(self) -> str:
        return f'the Keychain item "{self._service}"'

    def read(self) -> bytes | None:
        """Its content; None if there is no such item. Raises `TryLater` when the Keychain is locked or hangs."""
        code, out = self._run("find-generic-password", "-a", self._user, "-s", self._service, "-w")
        if code == _NOT_FOUND:
            return None
        if code == _LOCKED:
            raise TryLater(
                f"{self.where} can't be read: the Keychain is locked; unlock it with: security unlock-keychain"
            )
        if code:
            raise TryLater(
                f"{self.where} can't be read: {self._security} ended with {code}; see: "
                f'security find-generic-password -s "{self._service}"'
            )
        content = out.rstrip(b"\n")
        if len(content) % 2 == 0 and re.fullmatch(rb"[0-9a-f]+", content):  # how it prints what isn't all ASCII
            return HiddenBytes(bytes.fromhex(content.decode("ascii")))
        return HiddenBytes(content)

    def check_writable(self, size: int) -> None:
        """Raise `StorageFailed` if a document of this many bytes can't be handed over without showing it."""
        if len(self._line(b"")) + 2 * size > _LINE_LIMIT:
            raise StorageFailed(
                f"{self.where} holds {size} bytes, more than {self._security} takes from its standard input, and an "
                "argument would show them to every process; let Claude Code renew this login: run claude once"
            )

    def write(self, data: bytes) -> None:
        """Replace it. Hold the write lock. Raises `StorageFailed`, `TryLater`."""
        content = HiddenBytes(data)
        del data  # a traceback shows the locals of this frame
        self.check_writable(len(content))
        self._stamp = None
        code, _ = self._run("-i", line=self._line(content))
        if code or self.read() != content:  # an interactive `security` may well end with 0 after a failed command
            raise StorageFailed(f"{self.where} could not be written ({self._security} ended with {code})")

    def stamp(self) -> Hashable | None:
        """The sha256 of its content, read every 10 seconds at most; None without an item."""
        now = self._monotonic()
        if self._stamp is None or now - self._stamp[0] >= _STAMP_EVERY:
            try:
                content = self.read()
                self._stamp = now, None if content is None else sha256(content).hexdigest()
            except TokenferryError:  # a locked Keychain doesn't show whether its content changed
                self._stamp = now, self._stamp[1] if self._stamp else None
        return self._stamp[1]

    def _line(self, content: bytes) -> bytes:
        head = f'add-generic-password -U -a "{self._user}" -s "{self._service}" -X "'
        return HiddenBytes(b'%b%b"\n' % (head.encode("ascii"), content.hex().encode("ascii")))

    def _run(self, *arguments: str, line: bytes = b"") -> tuple[int, bytes]:
        command = [str(self._security), *arguments]
        try:
            done = subprocess.run(  # noqa: S603  # an absolute path, and no shell
                command, input=line, capture_output=True, timeout=self._timeout, check=False
            )
            return done.returncode, HiddenBytes(done.stdout)
        except subprocess.TimeoutExpired:
            fault = f"gave no answer within {self._timeout:g} seconds; it may be asking for leave on the screen"
        except OSError as error:
            fault = f"can't be run: {error.strerror}"
        # Outside the handler: the frames of the error's traceback hold the line.
        raise TryLater(f"{self.where} can't be reached: {self._security} {fault}")
