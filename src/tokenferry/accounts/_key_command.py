"""A key that a command prints: `op read`, `pass show`, `vault kv get`."""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Final

from msgspec import Struct

from tokenferry.background import Pending, after_fork_in_child
from tokenferry.credentials import ApiKey
from tokenferry.errors import KeyCommandFailed
from tokenferry.providers import Provider
from tokenferry.secret import HiddenBytes, Secret, parse_secret
from tokenferry.settings import AccountSettings
from tokenferry.stores import COMMAND, Account, Document

_LONGEST: Final = 64 * 1024
_TIMEOUT: Final = 30.0
_PAUSE: Final = 30.0
"""Seconds for which a failure stands: a locked vault is not asked by each request."""
_LOOK: Final = 0.02
"""Seconds between two looks at whether the program has ended."""
_GRACE: Final = 0.5
"""Seconds for which its output is read on when it has ended, where others keep it open."""


class KeyCommandSettings(Struct, frozen=True):
    """Which command prints the key of which account. `ttl` is in seconds."""

    account: str
    provider: str
    argv: tuple[str, ...]
    ttl: float


class KeyCommand:
    """Runs an account's command, one run at a time, and keeps the key for as long as the settings say.

    Any thread may use it. A run is on a thread of its own, so that an event loop only waits. `now` gives seconds since
    1970 UTC.
    """

    def __init__(self, settings: KeyCommandSettings, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.account = Account(settings.account, settings.provider, "api-key", owner="external", store=COMMAND)
        self._now = now
        self._guard = threading.Lock()
        self._pending: Pending[ApiKey] | None = None
        self._last: ApiKey | KeyCommandFailed | None = None
        self._until = 0.0
        after_fork_in_child(self._forget_run)

    def pending(self, refused: Secret | None = None) -> Pending[ApiKey] | None:
        """The run to wait for, begun where none is under way; None while what the last one gave holds.

        A key that the provider `refused` no longer does.
        """
        with self._guard:
            if self._pending is not None:
                return self._pending
            if self._now() < self._until and not (isinstance(self._last, ApiKey) and self._last.secret == refused):
                return None
            pending: Pending[ApiKey] = Pending()
            self._pending = pending
            name = f"tokenferry-key-{self.settings.account}"
            threading.Thread(target=self._run, args=(pending,), name=name, daemon=True).start()
            return pending

    def document(self) -> Document:
        """The account with its key; blocks while the command runs. Raises `KeyCommandFailed`."""
        if (pending := self.pending()) is not None:
            pending.wait(_TIMEOUT + 1)
        last = self._last
        if isinstance(last, ApiKey):
            return Document(self.account, last)
        if last is None:
            raise KeyCommandFailed(f"{self._subject} is still running; try again in a moment")
        raise copy(last)

    @property
    def _subject(self) -> str:
        return f"account {self.settings.account!r}: its command {self.settings.argv[0]}"

    def _run(self, pending: Pending[ApiKey]) -> None:
        found: ApiKey | None = None
        fault: KeyCommandFailed | None = None
        try:
            secret = self._read()
            found = ApiKey(secret, until=self._now() + self.settings.ttl)
        except KeyCommandFailed as caught:
            fault = caught
        except Exception as caught:  # noqa: BLE001  # the waiting callers must get it
            fault = KeyCommandFailed(f"{self._subject} could not be run: {type(caught).__name__}", retry_after=_PAUSE)
        with self._guard:
            self._last = found or fault
            self._until = self._now() + (self.settings.ttl if found else _PAUSE)
            self._pending = None
        pending.end(found, fault)

    def _forget_run(self) -> None:
        """In a forked child: the parent's threads don't run here."""
        self._guard, self._pending = threading.Lock(), None

    def _read(self) -> Secret:
        try:
            code, output = run(self.settings.argv, _TIMEOUT)
        except OSError as fault:
            raise self._failed(f"can't be run: {fault.strerror}; install it, or correct `command`") from None
        if len(output) > _LONGEST:
            raise self._failed("printed more than a key")
        if code is None:
            raise self._failed(f"did not end within {_TIMEOUT:g} s; run it in a terminal to see what it waits for")
        if code:
            raise self._failed(f"failed with exit code {code}; run it in a terminal to see why")
        try:
            return parse_secret(output.decode("utf-8", "replace"))
        except ValueError as fault:
            raise self._failed(f"printed no usable key: {fault}") from None

    def _failed(self, why: str) -> KeyCommandFailed:
        return KeyCommandFailed(f"{self._subject} {why}", retry_after=_PAUSE)


def run(argv: Sequence[str], timeout: float) -> tuple[int | None, HiddenBytes]:
    """Run a program to its end: its exit code, None if the time (seconds) was up, and the beginning of its output.

    It has no terminal, no input and no shell. With it ends whatever it started in its session; a program in another
    session that keeps the output open is not waited for. Raises `OSError`.
    """
    import subprocess  # noqa: PLC0415  # 10 ms that those without such an account are spared

    with subprocess.Popen(  # noqa: S603  # what the operator's own configuration names, without a shell
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
    """Whether the program still runs at `end` (monotonic seconds), and what it printed until it ended, or too much."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    output, is_open = HiddenBytes(), True
    while len(output) <= _LONGEST:
        # Until it is reaped, its number is its own.
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


def commands_of(providers: Iterable[Provider], accounts: Mapping[str, AccountSettings]) -> list[KeyCommandSettings]:
    """What the configuration says: of a provider for an account of its name, and of accounts."""
    found = [
        KeyCommandSettings(one.key_account, one.name, one.command, one.command_ttl) for one in providers if one.command
    ]
    return [
        *found,
        *(
            KeyCommandSettings(name, one.provider, one.command, one.command_ttl)
            for name, one in accounts.items()
            if one.provider is not None and one.command
        ),
    ]


def key_commands(
    wanted: Iterable[KeyCommandSettings], present: Mapping[str, KeyCommand], now: Callable[[], float]
) -> dict[str, KeyCommand]:
    """The commands by account; those that are there already, with what they know."""
    return {
        one.account: known
        if (known := present.get(one.account)) is not None and known.settings == one
        else KeyCommand(one, now)
        for one in wanted
    }
