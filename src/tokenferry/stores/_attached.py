import contextlib
import os
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import CorruptFile, NeedsLogin, UnknownAccount, UnsafeFile, UsageError
from tokenferry.stores._attachments import Attachments
from tokenferry.stores._document import Account, Document
from tokenferry.stores._file_store import FileStore
from tokenferry.stores._files import DISK, Disk, remove_file
from tokenferry.stores._seal import Seal
from tokenferry.stores._sealed import Header
from tokenferry.stores._store import Lock, Replacing, Store, held

_SUFFIX: Final = ".json"
_LOCK_WAIT: Final = 90.0  # a lock that a killed process left is taken over after 60
_FOLDER_LABEL: Final = "config_dir"
_PROFILE_LABEL: Final = "profile"


class Moves(Protocol):
    """An interrupted move of a login between this store and another program's."""

    def concerns(self, name: str) -> bool:
        """Tell whether there is an interrupted move of this account."""
        ...

    def recover(self, timeout: float) -> None:
        """Finish the move, waiting up to `timeout` seconds for locks. Raises `LockTimeout`, `StorageFailed`."""
        ...

    def held_off(self, timeout: float) -> AbstractContextManager[None]:
        """Finish the move, and let no other begin during a block. The caller must hold no account's lock."""
        ...


class AttachedStore:
    """A `Store` over the files of a home, in which another program may store an account's credential.

    Such an account has a 0600 document in `folder` that names the other store; `open_store` opens it. An account that
    was moved there has a second document, an unused copy. An interrupted move is finished before anybody gets the lock
    of its account.
    """

    def __init__(
        self,
        files: FileStore,
        folder: Path,
        open_store: Callable[[Account], Store],
        *,
        moves: Moves | None = None,
        disk: Disk = DISK,
    ) -> None:
        self._files = files
        self._folder = folder
        self._attachments = Attachments(folder, disk=disk)
        self._open_store = open_store
        self._moves = moves
        self._disk = disk
        self._opened: dict[Account, Store] = {}

    @property
    def files(self) -> FileStore:
        """The documents in the home."""
        return self._files

    @property
    def seal(self) -> Seal:
        return self._files.seal

    def header(self, name: str) -> Header | None:
        """Give the unencrypted part of a sealed document; None if it isn't sealed or isn't stored here."""
        return None if self.is_attached(name) else self._files.header(name)

    def attach(self, account: Account) -> None:
        """Add an account whose credential is stored elsewhere. Raises `UsageError`, `StorageFailed`."""
        name = account.name
        with self._no_move(), self._files.exclusive(name, _LOCK_WAIT), self._files.naming(name):
            if name in self.names():
                raise UsageError(f"account {name!r} exists already; use another name, or remove it first")
            for other in self._attachments.names():
                attached = self._attachments.read(other)
                if attached is not None and _is_one_place(attached, account):
                    raise UsageError(f"account {other!r} is attached to that login already")
            self._attachments.put(account)

    def amend(self, account: Account) -> None:
        """Replace the data of an attached account. Needs `exclusive(name)`. Raises `StorageFailed`."""
        self._attachments.put(account)

    def detach(self, name: str) -> None:
        """Remove an attached account; its login stays valid. Raises `StorageFailed`, `LockTimeout`."""
        with self._no_move(), self._files.exclusive(name, _LOCK_WAIT):
            remove_file(self._files.path(name), disk=self._disk)  # the copy that a move left; alone it would count
            self._attachments.remove(name)

    def is_attached(self, name: str) -> bool:
        try:
            return self._attachments.read(name) is not None
        except (CorruptFile, UnsafeFile):
            return True

    def names(self) -> list[str]:
        """Give the accounts, sorted, including those with a corrupt or unsafe document."""
        return sorted({*self._files.names(), *self._attachments.names()})

    def place(self, name: str) -> str:
        """The path of the account's document."""
        return str((self._attachments if self.is_attached(name) else self._files).path(name))

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`, `NeedsLogin`."""
        store = self._store_of(name)
        if store is self._files:
            try:
                return store.read(name)
            except UnknownAccount:  # the files alone don't know of the attached ones
                raise UnknownAccount.among("account", name, self.names(), "tokenferry account list") from None
        document = store.read(name)
        self._files.seal.note_used(name, None)  # what another program keeps in clear isn't sealed in the journal either
        return self._completed(name, document)

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`. Raises `Conflict`, `StorageFailed`."""
        self._store_of(name).swap(name, expected, new)

    def check_replaceable(self, name: str) -> None:
        """Raise `StorageFailed` or `UnsafeFile`, with the fix, if the document can't be replaced."""
        store = self._store_of(name)
        if isinstance(store, Replacing):
            store.check_replaceable(name)

    def discard(self, name: str) -> None:
        """Remove a document that can't be read. Needs `exclusive(name)`."""
        self._store_of(name).discard(name)

    def lock(self, name: str) -> Lock:
        """Give a new lock of the account, not yet held."""
        return _Lock(name, self._store_of, self._moves)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        """Give, by account, a value that changes whenever its document does."""
        stamps: dict[str, Hashable] = dict(self._files.stamps())
        for file, stamp in self._disk.stamps(self._folder).items():
            name = file.removesuffix(_SUFFIX)
            if name == file or file.startswith("."):
                continue
            with contextlib.suppress(CorruptFile, UnsafeFile):
                stamps[name] = (stamp, self._store_of(name).stamps().get(name))
        return stamps

    def _no_move(self) -> AbstractContextManager[None]:
        """Hold the lock of attachments, under which no login moves and only one process changes them."""
        return contextlib.nullcontext() if self._moves is None else self._moves.held_off(_LOCK_WAIT)

    def _store_of(self, name: str) -> Store:
        account = self._attachments.read(name)
        if account is None:
            return self._files
        store = self._opened.get(account)
        if store is None:
            store = self._opened[account] = self._open_store(account)
        return store

    def _completed(self, name: str, document: Document) -> Document:
        """Give the document with the other fields of the copy here. Raises `NeedsLogin` if their accounts differ."""
        try:
            copy = self._files.read(name)
        except (UnknownAccount, CorruptFile, UnsafeFile):
            return document
        document = replace(document, unknown=copy.unknown)  # such as where the login was imported from
        token, known = document.credential, copy.credential
        if not isinstance(token, OAuthToken) or not isinstance(known, OAuthToken):
            return document
        if are_different(token, known):
            raise NeedsLogin(
                f"account {name!r} was moved to {document.account.store}, which is logged in as another account by "
                f"now; give it back to it with: tokenferry {document.account.store} switch {name}"
            )
        return document if token.email else replace(document, credential=replace(token, email=known.email))


class _Lock:
    """The lock of the store that has the account when the lock is held. An interrupted move is finished first."""

    def __init__(self, name: str, store_of: Callable[[str], Store], moves: Moves | None) -> None:
        self._name = name
        self._store_of = store_of
        self._moves = moves
        self._lock = store_of(name).lock(name)

    def acquire(self, timeout: float) -> None:
        """Wait up to `timeout` seconds. Raises `LockTimeout` with the holder, and what a recovery raises."""
        deadline = time.monotonic() + timeout
        while True:
            store = self._store_of(self._name)
            self._lock = store.lock(self._name)
            self._lock.acquire(max(0.0, deadline - time.monotonic()))
            try:
                is_cut_short = self._moves is not None and self._moves.concerns(self._name)
                if not is_cut_short and self._store_of(self._name) is store:
                    return
            except BaseException:
                self._lock.release()
                raise
            self._lock.release()
            if is_cut_short and self._moves is not None:
                self._moves.recover(max(0.0, deadline - time.monotonic()))

    def is_still_ours(self) -> bool:
        return self._lock.is_still_ours()

    def release(self) -> None:
        self._lock.release()


def are_different(one: OAuthToken, other: OAuthToken) -> bool:
    """Tell whether two logins are known to belong to different accounts."""
    pairs = ((one.account_id, other.account_id), (one.organization_id, other.organization_id))
    return any(left and right and left != right for left, right in pairs)


def _is_one_place(one: Account, other: Account) -> bool:
    """Tell whether two attached accounts have the same place. One without a place counts as the same."""
    folders, profiles = ([each.labels.get(label) for each in (one, other)] for label in (_FOLDER_LABEL, _PROFILE_LABEL))
    are_one_folder = not all(folders) or len({os.path.realpath(folder) for folder in folders if folder}) == 1
    return one.store == other.store and are_one_folder and (not all(profiles) or profiles[0] == profiles[1])
