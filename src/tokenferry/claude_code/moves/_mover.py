import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from tokenferry.claude_code import FOLDER_LABEL, ClaudeCodeHome, ClaudeCodeLogin, ClaudeCodeStore, digest
from tokenferry.claude_code import STORE as CLAUDE_CODE
from tokenferry.claude_code.moves._owner_lookup import logins, new_name, of_the_same, owner_of
from tokenferry.claude_code.moves._readiness import check_may_leave, is_dead, settled
from tokenferry.claude_code.moves._record import MoveFile, MoveRecord
from tokenferry.claude_code.moves._transfer import Transfer, leaving
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LockTimeout, NeedsLogin, TryLater, UnknownAccount, UsageError
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home
from tokenferry.stores import DISK, Account, Attachments, Disk, FileLock, FileStore, Lock

logger = logging.getLogger(__name__)

_PROVIDER: Final = "claude-max"
_LOCK_WAIT: Final = 90.0  # a lock that a killed process left is taken over after 60
_SILENT: Final = 2.0  # seconds of waiting before a message names the reason
_ROUNDS: Final = 3


class Present(Struct, frozen=True):
    """Whose login Claude Code has."""

    where: str
    login: ClaudeCodeLogin
    name: str | None = None
    """Our account with this token family, or the name of the account to create; None without a login."""
    is_new: bool = False
    """There is no such account yet."""
    recorded: Account | None = None
    """The account whose login is recorded to be there."""
    same: tuple[str, ...] = ()
    """Our accounts of the vendor's account that the login names, with `name` among them."""


class Moved(Struct, frozen=True):
    """The result of a move."""

    name: str
    """The account whose login Claude Code has now."""
    home: str | None = None
    """The account of its previous login, which was brought home."""
    is_new: bool = False
    """That account was created for it."""
    stranded: str | None = None
    """An account that Claude Code was logged out of in between."""
    is_gone: bool = False
    """Whether nothing was left of that account, so that it was removed."""
    was_there: bool = False
    """Nothing had to be moved."""


class Mover:
    """Moves logins between our accounts and Claude Code's own store; `Transfer` has the steps."""

    def __init__(
        self,
        home: Home,
        open_claude_code: Callable[[Account], ClaudeCodeStore],
        *,
        machine: str,
        disk: Disk = DISK,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._files = FileStore(home, disk=disk)
        self._attachments = Attachments(home.attached, disk=disk)
        self._journal = FileJournal(home.journal, disk=disk)
        self._record = MoveFile(home.move_to_claude_code, disk=disk)
        self._transfer = Transfer(self._files, self._attachments, self._record, machine=machine)
        self._locks = home.locks
        self._open = open_claude_code
        self._machine = machine
        self._now = now

    def pending(self) -> MoveRecord | None:
        """The move that is under way or was interrupted, if there is one. Raises `CorruptFile`, `UnsafeFile`."""
        return self._record.read()

    def concerns(self, name: str) -> bool:
        """Whether that move involves this account."""
        record = self._record.read()
        return record is not None and name in {record.to, record.home}

    def recover(self, timeout: float = _LOCK_WAIT) -> None:
        """Complete an interrupted move. Raises `LockTimeout`, `StorageFailed`, `UnsafeFile`."""
        if self._record.read() is not None:
            with self._alone(timeout) as deadline:
                self._finish(deadline)

    @contextlib.contextmanager
    def held_off(self, timeout: float = _LOCK_WAIT) -> Iterator[None]:
        """Complete an interrupted move, and let none start during the block. Raises the errors of `recover`."""
        with self._alone(timeout) as deadline:
            self._finish(deadline)
            yield

    def take_in(self, provider: str = _PROVIDER, timeout: float = _LOCK_WAIT) -> Present:
        """Whose login Claude Code has now; a login that belongs to no account is attached as a new one."""
        self.recover(timeout)
        present = self._present(self._store())
        if not present.is_new:
            return present
        with self._alone(timeout) as deadline:
            store = self._store()
            with self._seen(store, (), deadline) as (present, _):
                if present.is_new:
                    self._strand(present)
                    self._attach_present(store, present, provider)
            return self._present(store)

    def move(self, name: str, provider: str = _PROVIDER, timeout: float = _LOCK_WAIT) -> Moved:
        """Make the account's login Claude Code's, and bring its present login home.

        If that belongs to no account here, `provider` becomes the new account's provider.
        Raises `UnknownAccount`, `NeedsLogin`, `ChainCopied`, `RefreshUncertain`, `RefreshBusy`, `LockTimeout`,
        `CredentialRefused`, `UnsafeFile`, `CorruptFile`, `StorageFailed`, `Conflict`; then nothing has moved.
        """
        with self._alone(timeout) as deadline:
            self._finish(deadline)
            store = self._store()
            with self._seen(store, (name,), deadline) as (present, lock):
                return self._move(name, store, present, lock, provider)

    # -- locks

    @contextlib.contextmanager
    def _alone(self, timeout: float) -> Iterator[float]:
        """Allow one move at a time, so that no two wait for each other's accounts. Gives the deadline."""
        deadline = time.monotonic() + timeout
        with _held(FileLock(self._record.path, self._locks), deadline):
            yield deadline

    @contextlib.contextmanager
    def _held(self, store: ClaudeCodeStore, names: set[str], deadline: float) -> Iterator[Lock]:
        """Hold our locks in order, then Claude Code's. It waits while we hold them, so only write files here."""
        with contextlib.ExitStack() as stack:
            for name in sorted(names):
                stack.enter_context(_held(self._files.lock(name), deadline))
            lock = store.lock(CLAUDE_CODE)
            stack.enter_context(_held(lock, deadline))
            yield lock

    @contextlib.contextmanager
    def _seen(self, store: ClaudeCodeStore, names: tuple[str, ...], deadline: float) -> Iterator[tuple[Present, Lock]]:
        """Hold the locks of these accounts and of those in Claude Code's store, and read that store."""
        for _ in range(_ROUNDS):
            wanted = {*names, *_involved(self._present(store))}
            with self._held(store, wanted, deadline) as lock:
                present = self._present(store)
                if _involved(present) <= wanted:
                    yield present, lock
                    return
        raise TryLater(f"{store.look()[0]} changes faster than it can be read; try again", retry_after=1.0)

    # -- the present logins

    def _store(self, folder: str | None = None) -> ClaudeCodeStore:
        """Claude Code's store, whoever's login it has; by default that of this environment."""
        labels = MappingProxyType({} if folder is None else {FOLDER_LABEL: folder})
        return self._open(Account(CLAUDE_CODE, _PROVIDER, "oauth", CLAUDE_CODE, CLAUDE_CODE, labels=labels))

    def _present(self, store: ClaudeCodeStore) -> Present:
        where, login = store.look()
        known, recorded = logins(self._files), self._recorded(store.home)
        if login.token is None:
            return Present(where, login, recorded=recorded)

        name = owner_of(login.token, recorded.name if recorded else None, known, self._is_dead_here)
        same = {*of_the_same(login.token, known), *filter(None, (name,))}
        if name is None:
            taken = (*self._files.names(), *self._attachments.names())
            return Present(where, login, new_name(login.token, known, taken), True, recorded, tuple(sorted(same)))
        return Present(where, login, name, recorded=recorded, same=tuple(sorted(same)))

    def _recorded(self, home: ClaudeCodeHome) -> Account | None:
        """The account recorded for this folder's login; an account without a folder belongs to the present folder."""
        for name in self._attachments.names():
            account = self._attachments.read(name)
            if account and account.store == CLAUDE_CODE and home.is_at(account.labels.get(FOLDER_LABEL, home.label)):
                return account
        return None

    def _is_dead_here(self, name: str) -> bool:
        """Whether the account's login is stored here and no longer works for any program."""
        token = self._files.read(name).credential
        return (
            self._attachments.read(name) is None
            and isinstance(token, OAuthToken)
            and is_dead(self._journal, name, token)
        )

    # -- one move

    def _move(self, name: str, store: ClaudeCodeStore, present: Present, lock: Lock, provider: str) -> Moved:
        recorded, login = present.recorded, present.login
        if login.state == "unparsable":
            raise login.error(present.where) or AssertionError
        if recorded is not None and recorded.name == name == present.name:
            return Moved(name, was_there=True)
        if present.name == name and self._is_dead_here(name):
            stranded = self._strand(present)
            self._attachments.put(leaving(self._files.read(name).account, store))
            return Moved(name, stranded=stranded)
        home = None if present.name == name else present.name
        coming = self._ready(name, present)
        there = None if login.token is None else digest(login.token)
        is_clone = digest(coming) == there
        if home is not None and is_clone:
            raise UsageError(
                f"account {name!r} holds the very login that Claude Code has as account {home!r}, and one login must "
                f"not be two accounts; remove one with: tokenferry account remove {name}"
            )
        stranded = self._strand(present)
        moved = Moved(
            name, home, home is not None and present.is_new, stranded, stranded not in {None, *self._files.names()}
        )
        if home is None and is_clone:
            self._attachments.put(leaving(self._files.read(name).account, store))
            return moved
        if home is not None:
            self._attach_present(store, present, provider)
            there = self._settle_present(home)
        self._transfer.carry_out(
            MoveRecord(
                to=name,
                home=home,
                step="preparing",
                place=present.where,
                config_dir=store.home.label,
                present=there,
                coming=digest(coming),
                account_id=coming.account_id,
                organization_id=coming.organization_id,
                at=int(self._now()),
            ),
            store,
            lock,
        )
        return moved

    def _ready(self, name: str, present: Present) -> OAuthToken:
        """The login that is to leave. Raises an error if it can't."""
        account = self._attachments.read(name)
        if account is not None and account != present.recorded:
            raise UsageError(
                f"account {name!r} is stored in the login of {account.store}{_in_folder(account)}, which can't be "
                "moved from there to here"
            )
        try:
            document = self._files.read(name)
        except UnknownAccount:
            if present.recorded is not None and present.recorded.name == name:
                raise NeedsLogin(
                    f"account {name!r}: Claude Code was logged out of it, and no copy of its login is here; log in "
                    "again with: claude /login"
                ) from None
            raise
        check_may_leave(self._journal, document, machine=self._machine)
        document = settled(self._files, self._journal, document, machine=self._machine)
        assert isinstance(document.credential, OAuthToken)
        return document.credential

    def _settle_present(self, name: str) -> str:
        """Settle the last refresh of the login that is to come home. Gives the digest of its tokens."""
        account = self._attachments.read(name)
        assert account is not None
        theirs = self._open(account)
        document = settled(theirs, self._journal, theirs.read(name), machine=self._machine)
        assert isinstance(document.credential, OAuthToken)
        return digest(document.credential)

    def _strand(self, present: Present) -> str | None:
        """Detach an account that Claude Code was logged out of: its login stored here counts again. Gives its name."""
        recorded = present.recorded
        if recorded is None or (recorded.name == present.name):
            return None
        self._attachments.remove(recorded.name)
        return recorded.name

    def _attach_present(self, store: ClaudeCodeStore, present: Present, provider: str) -> None:
        """Record whose login is there, unless it is recorded already."""
        assert present.name is not None
        if self._attachments.read(present.name) is not None:
            return
        try:
            account = self._files.read(present.name).account
        except UnknownAccount:
            account = Account(present.name, provider, "oauth", created_at=int(self._now()))
        self._attachments.put(leaving(account, store))

    # -- interrupted moves

    def _finish(self, deadline: float) -> None:
        record = self._record.read()
        if record is None:
            return
        store = self._store(record.config_dir)
        with self._held(store, {record.to, *filter(None, (record.home,))}, deadline) as lock:
            self._transfer.end(store, lock)


@contextlib.contextmanager
def _held(lock: Lock, deadline: float) -> Iterator[None]:
    """Hold it for a block; a longer wait writes one message with the reason. Raises `LockTimeout`."""
    try:
        lock.acquire(max(0.0, min(_SILENT, deadline - time.monotonic())))
    except LockTimeout as fault:
        left = deadline - time.monotonic()
        if left <= 0:
            raise
        logger.warning("waiting up to %.0f s: %s", left, str(fault).partition(";")[0])
        lock.acquire(left)
    try:
        yield
    finally:
        lock.release()


def _involved(present: Present) -> set[str]:
    return {name for name in (present.name, present.recorded and present.recorded.name) if name}


def _in_folder(account: Account) -> str:
    folder = account.labels.get(FOLDER_LABEL)
    return f" in {folder}" if folder else ""
