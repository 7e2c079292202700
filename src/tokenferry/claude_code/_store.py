import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.claude_code._document import ClaudeCodeLogin, LoginState, digest, merge, parse, put_in
from tokenferry.claude_code._file import CredentialsFile
from tokenferry.claude_code._home import ClaudeCodeHome
from tokenferry.claude_code._keychain import Keychain
from tokenferry.claude_code._last_grant import LastGrant
from tokenferry.claude_code._lock import ClaudeCodeLock, LockTiming, WriteLock
from tokenferry.credentials import OAuthToken
from tokenferry.errors import (
    Conflict,
    CorruptFile,
    StorageFailed,
    TokenferryError,
    TryLater,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.stores import DISK, Account, Disk, Document, FileLock, held

STORE: Final = "claude-code"
FOLDER_LABEL: Final = "config_dir"
_ROOM: Final = 256  # bytes that a renewed login may be longer


class Place(Protocol):
    """Where Claude Code stores a credential document."""

    @property
    def where(self) -> str: ...

    def read(self) -> bytes | None: ...

    def write(self, data: bytes) -> None: ...

    def check_writable(self, size: int) -> None: ...

    def stamp(self) -> Hashable | None: ...


class LoginStatus(Struct, frozen=True):
    """The state of Claude Code's login. `message` says how to fix it, and is empty when it works."""

    state: LoginState
    where: str
    message: str


class ClaudeCodeStore:
    """Claude Code's own login as a store of one account.

    Its token family belongs to Claude Code: this store takes Claude Code's locks, writes nothing but renewed tokens,
    and never removes a login. The first of the `places` that holds a document counts, and is written to.
    `locks` is the folder of our own locks. The generation of a document is made from its tokens' sha256.
    """

    def __init__(
        self,
        account: Account,
        home: ClaudeCodeHome,
        locks: Path,
        *,
        places: Sequence[Place] | None = None,
        timing: LockTiming | None = None,
        disk: Disk = DISK,
    ) -> None:
        self.home = home
        self._account = account
        self._locks = locks
        self._places = tuple(places or (CredentialsFile(home, disk=disk),))
        self._timing = timing or LockTiming()
        self._disk = disk
        self._last_grant = LastGrant(FileLock(home.credentials, locks).path.with_suffix(".granted"), disk=disk)

    @classmethod
    def on_this_platform(
        cls, account: Account, home: ClaudeCodeHome, locks: Path, *, user: str, platform: str = sys.platform
    ) -> "ClaudeCodeStore":
        """The Keychain before the file on macOS, only the file elsewhere. `user` is $USER. Raises `ConfigError`."""
        file = CredentialsFile(home)
        return cls(account, home, locks, places=(Keychain(home, user), file) if platform == "darwin" else (file,))

    def names(self) -> list[str]:
        """The account, if there is a login, or if the store can't be read."""
        try:
            _, login = self._look()
        except TokenferryError:
            return [self._account.name]
        return [self._account.name] if login.token or login.state == "unparsable" else []

    def read(self, name: str) -> Document:
        """Read the present login.

        Raises `UnknownAccount` for another name, `NeedsLogin` when there is no login, `CorruptFile`, `UnsafeFile`,
        `TryLater` when the Keychain is locked.
        """
        self._check_name(name)
        place, login = self._look()
        if login.token is None or login.generation is None:
            raise login.error(place.where) or AssertionError
        return Document(self._account, self._last_grant.complete(login.token), login.generation)

    def status(self) -> LoginStatus:
        """The login's state. Raises `UnsafeFile`, and `TryLater` when the Keychain is locked."""
        place, login = self._look()
        return LoginStatus(login.state, place.where, str(login.error(place.where) or ""))

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Write renewed tokens if the present ones are the expected ones; None means "no login".

        Raises `Conflict`; `StorageFailed` when the present document can't be replaced, or another program holds the
        write lock; `UsageError` for a removal, a credential of another kind, or fewer tokens than the document has.
        """
        self._check_name(name)
        if new is None:
            raise UsageError(f"account {name!r} is Claude Code's login, which it alone removes; run: claude /logout")
        token = new.credential
        if not isinstance(token, OAuthToken):
            raise UsageError(f"Claude Code's login can't hold a {token.kind}")
        lock = self._write_lock()
        try:
            self._prepare()
            lock.acquire(self._timing.write)
            place, login = self._look()
            if login.state == "unparsable":
                raise login.error(place.where) or AssertionError
            if login.generation != expected:
                raise Conflict(f"{place.where} was changed by another program; nothing was written")
            data = merge(login, token)
            self._last_grant.keep(token)
            if not lock.is_still_ours():
                raise StorageFailed(f"{place.where} was not written: another program took the write lock over")
            place.write(data)
        except (TryLater, UnsafeFile, CorruptFile) as fault:
            raise StorageFailed(f"the renewed login could not be written: {fault}") from None
        finally:
            lock.release()

    def look(self) -> tuple[str, ClaudeCodeLogin]:
        """The login and the name of its place. Raises `UnsafeFile`; `TryLater` when the Keychain is locked."""
        place, login = self._look()
        return place.where, replace(login, token=login.token and self._last_grant.complete(login.token))

    def hand_over(self, expected: str | None, token: OAuthToken, announce: Callable[[], None]) -> None:
        """Replace the login that has this `digest` with another account's; None means "no login".

        Hold `lock`. `announce` is called when only the last step is left; an exception of it ends the attempt.
        Raises `Conflict`, `CorruptFile`, `UnsafeFile`, `StorageFailed`, `LockTimeout`.
        """
        lock = self._write_lock()
        try:
            self._prepare()
            lock.acquire(self._timing.write)
            place, login = self._look()
            if login.state == "unparsable":
                raise login.error(place.where) or AssertionError
            if (None if login.token is None else digest(login.token)) != expected:
                raise Conflict(f"{place.where} was changed by another program; nothing was written")
            data = put_in(login, token)
            place.check_writable(len(data))
            self._last_grant.keep(token)
            if isinstance(place, CredentialsFile):
                place.stage(data)
            announce()
            if not lock.is_still_ours():
                raise StorageFailed(f"{place.where} was not written: another program took the write lock over")
            if isinstance(place, CredentialsFile):
                place.install()
            else:
                place.write(data)
        finally:
            lock.release()

    def is_staged(self) -> bool | None:
        """Whether a `hand_over` ended before its last step; None for a Keychain, which doesn't show it."""
        place, _ = self._look()
        return place.is_staged() if isinstance(place, CredentialsFile) else None

    def unstage(self) -> None:
        """Remove what such a `hand_over` left behind. Hold `lock`. Raises `StorageFailed`."""
        for place in self._places:
            if isinstance(place, CredentialsFile):
                place.unstage()

    def check_replaceable(self, name: str) -> None:
        """Raise if a renewed login couldn't be written: `UnsafeFile`, `StorageFailed`, `UnknownAccount`."""
        self._check_name(name)
        self._check_writable()

    def discard(self, name: str) -> None:
        """Refuse, because the login is Claude Code's. Raises `UsageError`."""
        self._check_name(name)
        raise UsageError(f"account {name!r} is Claude Code's login, which it alone removes; run: claude /logout")

    def lock(self, name: str) -> "AccountLock":
        """A new lock, not yet held; it takes ours first, then Claude Code's."""
        self._check_name(name)
        theirs = ClaudeCodeLock(self.home, self._locks, timing=self._timing)
        return AccountLock(FileLock(self.home.credentials, self._locks), theirs, self._prepare, self._check_writable)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises the errors of `AccountLock.acquire`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        stamps = tuple(place.stamp() for place in self._places)
        return {self._account.name: stamps} if any(stamp is not None for stamp in stamps) else {}

    def _look(self) -> tuple[Place, ClaudeCodeLogin]:
        for place in self._places:
            content = place.read()
            if content is not None:
                return place, parse(content)
        return self._places[0], parse(None)

    def _write_lock(self) -> WriteLock:
        return WriteLock(self.home, self._locks, timing=self._timing)

    def _check_name(self, name: str) -> None:
        if name != self._account.name:
            raise UnknownAccount(f"there is no account {name!r} in Claude Code's store; see: tokenferry account list")

    def _prepare(self) -> None:
        """Make the folder of the lock directories. Raises `UnsafeFile`, `StorageFailed`."""
        self._disk.make_folder(self.home.path)

    def _check_writable(self) -> None:
        """Raise if a renewed login couldn't be written, before one is requested."""
        place, login = self._look()
        if login.token is not None:
            place.check_writable(len(merge(login, login.token)) + _ROOM)
        if self.home.write_lock.exists() and not self.home.write_lock.is_dir():
            raise UnsafeFile(
                f"{self.home.write_lock} is not a directory, as Claude Code's locks are, so no program can write its "
                f"login; end its sessions, then remove it with: rm '{self.home.write_lock}'"
            )


class AccountLock:
    """Our lock on the account, then both locks of Claude Code."""

    def __init__(
        self, ours: FileLock, theirs: ClaudeCodeLock, prepare: Callable[[], None], check: Callable[[], None]
    ) -> None:
        self._ours = ours
        self._theirs = theirs
        self._prepare = prepare
        self._check = check

    def acquire(self, timeout: float) -> None:
        """Take all, waiting `timeout` seconds at most, and check that a renewed login can be written.

        Raises `LockTimeout`, `UnsafeFile`, `StorageFailed`; then nothing is held.
        """
        deadline = time.monotonic() + timeout
        self._ours.acquire(timeout)
        try:
            self._prepare()
            self._theirs.acquire(max(0.0, deadline - time.monotonic()))
            self._check()
        except BaseException:
            self.release()
            raise

    def is_still_ours(self) -> bool:
        """Whether no other process took over one of them, as happens to a process that was suspended."""
        return self._ours.is_still_ours() and self._theirs.is_still_ours()

    def release(self) -> None:
        """Release the locks; does nothing when none is held."""
        self._theirs.release()
        self._ours.release()


def claude_code_account(name: str, provider: str, home: ClaudeCodeHome, *, created_at: int = 0) -> Account:
    """The account of the login in this folder; `created_at` in seconds since 1970 UTC."""
    labels = MappingProxyType({FOLDER_LABEL: home.label})
    return Account(name, provider, "oauth", owner="claude-code", store=STORE, labels=labels, created_at=created_at)
