import contextlib
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Final

from tokenferry.errors import CorruptFile, UnsafeFile, UsageError
from tokenferry.secret import parse_object
from tokenferry.stores._document import (
    VERSION,
    Account,
    Document,
    account_from_json,
    account_to_json,
    check_account_name,
)
from tokenferry.stores._file_store import FileStore
from tokenferry.stores._files import DISK, Disk, remove_file, replace_private_file
from tokenferry.stores._store import Lock, Store

_SUFFIX: Final = ".json"


class AttachedStore:
    """A `Store` over the files of a home, in which an account's credential may rest in another program's store.

    Of such an account a 0600 document in `folder` says which store that is; `open_store` opens it.
    """

    def __init__(
        self, files: FileStore, folder: Path, open_store: Callable[[Account], Store], *, disk: Disk = DISK
    ) -> None:
        self._files = files
        self._folder = folder
        self._open_store = open_store
        self._disk = disk
        self._opened: dict[Account, Store] = {}

    def attach(self, account: Account) -> None:
        """Take an account in whose credential rests elsewhere. Raises `UsageError`, `StorageFailed`."""
        with self._files.exclusive(account.name, timeout=60.0):
            names = {name.casefold(): name for name in self.names()}
            if (taken := names.get(account.name.casefold())) is not None:
                raise UsageError(f"account {taken!r} exists already; use another name, or remove it first")
            for other in self._attached():
                attached = self._attachment(other)
                if attached is not None and attached.store == account.store:
                    raise UsageError(f"account {other!r} is attached to that store already")
            fields = {"version": VERSION, "store": account.store, **account_to_json(account)}
            replace_private_file(
                self._path(account.name), json.dumps(fields, indent=1).encode("ascii") + b"\n", disk=self._disk
            )

    def detach(self, name: str) -> None:
        """Forget an attached account; the login itself stays as it is. Raises `StorageFailed`."""
        remove_file(self._path(name), disk=self._disk)

    def is_attached(self, name: str) -> bool:
        try:
            return self._attachment(name) is not None
        except (CorruptFile, UnsafeFile):
            return True

    def names(self) -> list[str]:
        """The accounts, sorted; those whose document is corrupt or unsafe are among them."""
        return sorted({*self._files.names(), *self._attached()})

    def path(self, name: str) -> Path:
        """Where the account's document lies."""
        return self._path(name) if self.is_attached(name) else self._files.path(name)

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`, `NeedsLogin`."""
        return self._store_of(name).read(name)

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`. Raises `Conflict`, `StorageFailed`."""
        self._store_of(name).swap(name, expected, new)

    def discard(self, name: str) -> None:
        """Remove a document that can't be read. Only for who holds `exclusive(name)`."""
        self._store_of(name).discard(name)

    def lock(self, name: str) -> Lock:
        """A new lock object for the account, not yet held."""
        return self._store_of(name).lock(name)

    @contextlib.contextmanager
    def exclusive(self, name: str, timeout: float) -> Iterator[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        with self._store_of(name).exclusive(name, timeout):
            yield

    def stamps(self) -> Mapping[str, Hashable]:
        """By account, a value that changes whenever its document does."""
        stamps: dict[str, Hashable] = dict(self._files.stamps())
        for file, stamp in self._disk.stamps(self._folder).items():
            name = file.removesuffix(_SUFFIX)
            if name == file or file.startswith("."):
                continue
            with contextlib.suppress(CorruptFile, UnsafeFile):
                stamps[name] = (stamp, self._store_of(name).stamps().get(name))
        return stamps

    def _store_of(self, name: str) -> Store:
        account = self._attachment(name)
        if account is None:
            return self._files
        store = self._opened.get(account)
        if store is None:
            store = self._opened[account] = self._open_store(account)
        return store

    def _attached(self) -> list[str]:
        names = (name for name in self._disk.names(self._folder) if not name.startswith("."))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]

    def _attachment(self, name: str) -> Account | None:
        """The account if it is attached. Raises `CorruptFile`, `UnsafeFile`."""
        path = self._path(name)
        try:
            fields = parse_object(self._disk.read(path))
        except FileNotFoundError:
            return None
        reason = "it is no JSON object"
        if fields is not None:
            try:
                return account_from_json(fields, path, store=str(fields.get("store")))
            except UsageError as fault:
                reason = str(fault)
        raise CorruptFile(f"{path} can't be understood: {reason}; remove it with: tokenferry accounts remove {name}")

    def _path(self, name: str) -> Path:
        return self._folder / f"{check_account_name(name)}{_SUFFIX}"
