"""A key that a command prints: `op read`, `pass show`, `vault kv get`."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from tokenferry.accounts._key_source import KeySettings, KeySource
from tokenferry.credentials import ApiKey
from tokenferry.secret import HiddenBytes, parse_secret
from tokenferry.stores import COMMAND

_LONGEST: Final = 64 * 1024
_TIMEOUT: Final = 30.0
_LOOK: Final = 0.02
"""Seconds between two looks at whether the program has ended."""
_GRACE: Final = 0.5
"""Seconds for which output is still read after the program's end, if other processes keep the pipe open."""


class KeyCommandSettings(KeySettings, frozen=True):
    """The account, and the command that prints its key. `ttl` is in seconds."""

    argv: tuple[str, ...]
    ttl: float

    def source(self, now: Callable[[], float]) -> KeySource:
        return KeyCommand(self, now)


class KeyCommand(KeySource):
    """Runs an account's command, and caches the key for the configured time."""

    store = COMMAND

    def __init__(self, settings: KeyCommandSettings, now: Callable[[], float] = time.time) -> None:
        super().__init__(settings, now)
        self._argv, self._ttl = settings.argv, settings.ttl

    @property
    def subject(self) -> str:
        return f"account {self.account.name!r}: its command {self._argv[0]}"

    def fetch(self) -> ApiKey:
        try:
            code, output = run(self._argv, _TIMEOUT)
        except OSError as fault:
            raise self.failed(f"can't be run: {fault.strerror}; install it, or correct `command`") from None
        if len(output) > _LONGEST:
            raise self.failed("printed more than a key")
        if code is None:
            raise self.failed(f"did not end within {_TIMEOUT:g} s; run it in a terminal to see what it waits for")
        if code:
            raise self.failed(f"failed with exit code {code}; run it in a terminal to see why")
        try:
            secret = parse_secret(output.decode("utf-8", "replace"))
        except ValueError as fault:
            raise self.failed(f"printed no usable key: {fault}") from None
        return ApiKey(secret, until=self._now() + self._ttl)


def run(argv: Sequence[str], timeout: float) -> tuple[int | None, HiddenBytes]:
    """Run a program; return its exit code, None after `timeout` seconds, and the beginning of its output.

    It has no terminal, no input and no shell. Everything that it started in its session is killed at its end; a program
    in another session that keeps the output open is not waited for. Raises `OSError`.
    """
    import subprocess  # noqa: PLC0415  # 10 ms, for accounts of this kind alone

    with subprocess.Popen(  # noqa: S603  # from the operator's own configuration, without a shell
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            is_late, output = _output_of(process.pid, process.stdout.fileno(), time.monotonic() + timeout)
        finally:
            _kill(process.pid)
        code = process.wait()
    return None if is_late else code, output


def _output_of(process: int, pipe: int, end: float) -> tuple[bool, HiddenBytes]:
    """Return whether the program still runs at `end` (monotonic seconds), and its output up to the limit."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    output, is_open = HiddenBytes(), True
    while len(output) <= _LONGEST:
        # Until the process is reaped, its number is not reused.
        has_ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        now = time.monotonic()
        if has_ended:
            end = min(end, now + _GRACE)
        if now >= end or (has_ended and not is_open):
            return not has_ended, output
        if not is_open:
            time.sleep(_LOOK)
        elif poll.poll(_LOOK * 1000):
            known = len(output)
            output = HiddenBytes(output + os.read(pipe, _LONGEST + 1 - known))
            is_open = len(output) > known
    return False, output


def _kill(session: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
