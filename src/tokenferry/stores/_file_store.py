import contextlib
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tokenferry.errors import Conflict, CorruptFile, UnknownAccount, UnsafeFile
from tokenferry.settings import Home
from tokenferry.stores._document import Document, check_account_name
from tokenferry.stores._files import DISK, Disk, remove_file, remove_leftovers, replace_private_file
from tokenferry.stores._lock import FileLock
from tokenferry.stores._store import held

_SUFFIX: Final = ".json"


class FileStore:
    """One 0600 JSON document per account in a 0700 folder."""

    def __init__(self, home: Home, *, disk: Disk = DISK) -> None:
        self._home = home
        self._disk = disk

    def names(self) -> list[str]:
        """The accounts it holds, sorted; those whose document is corrupt or unsafe are among them."""
        names = (name for name in self._disk.names(self._home.accounts) if not name.startswith("."))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]

    def path(self, name: str) -> Path:
        """Where the account's document lies."""
        return self._home.accounts / f"{check_account_name(name)}{_SUFFIX}"

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
        path = self.path(name)
        try:
            return Document.from_bytes(self._disk.read(path), path)
        except FileNotFoundError:
            raise UnknownAccount(
                f"{path} not found: there is no account {name!r}; see: tokenferry accounts list"
            ) from None

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`. Raises `Conflict`, `StorageFailed`."""
        path = self.path(name)
        try:
            found: int | None = self.read(name).generation
        except UnknownAccount:
            found = None
        if found != expected:
            raise Conflict(f"{path} was changed by somebody else in the meantime; nothing was written")
        remove_leftovers(path, disk=self._disk)
        if new is None:
            remove_file(path, disk=self._disk)
        else:
            replace_private_file(path, replace(new, generation=(expected or 0) + 1).to_bytes(), disk=self._disk)

    def discard(self, name: str) -> None:
        """Remove a document that can't be read. Only for who holds `exclusive(name)`."""
        with contextlib.suppress(UnknownAccount, CorruptFile, UnsafeFile):
            self.read(name)
            raise Conflict(f"{self.path(name)} can be read; remove it by its generation")
        remove_file(self.path(name), disk=self._disk)

    def lock(self, name: str) -> FileLock:
        """A new lock object for the account, not yet held."""
        return FileLock(self.path(name), self._home.locks)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        """By account, a value that changes whenever its document does."""
        stamps = self._disk.stamps(self._home.accounts)
        return {
            name.removesuffix(_SUFFIX): stamp
            for name, stamp in stamps.items()
            if name.endswith(_SUFFIX) and not name.startswith(".")
        }
