import contextlib
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tokenferry.errors import Conflict, CorruptFile, NeedsUnlock, SealKeyLost, UnknownAccount, UnsafeFile
from tokenferry.sealing import SealKey
from tokenferry.secret import HiddenBytes, parse_object
from tokenferry.settings import Home
from tokenferry.stores._attachments import Attachments
from tokenferry.stores._document import Document, check_account_name, refuse_twin
from tokenferry.stores._files import DISK, Disk, remove_file, remove_leftovers, replace_private_file
from tokenferry.stores._lock import FileLock
from tokenferry.stores._seal import Seal
from tokenferry.stores._sealed import Header, Resealed, SealedDocument, parse_sealed
from tokenferry.stores._store import held

_SUFFIX: Final = ".json"


class FileStore:
    """Stores one 0600 JSON document per account in a 0700 folder; sealed if the home is."""

    def __init__(self, home: Home, *, disk: Disk = DISK, seal: Seal | None = None) -> None:
        self._home = home
        self._disk = disk
        self._seal = seal or (Seal.of(home) if disk is DISK else Seal(home, disk=disk))
        self._replaced = Resealed()

    @property
    def seal(self) -> Seal:
        return self._seal

    def names(self) -> list[str]:
        """Give the accounts, sorted, including those with a corrupt or unsafe document."""
        names = (name for name in self._disk.names(self._home.accounts) if not name.startswith("."))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]

    def path(self, name: str) -> Path:
        """The path of the account's document."""
        return self._home.accounts / f"{check_account_name(name)}{_SUFFIX}"

    def place(self, name: str) -> str:
        return str(self.path(name))

    def read(self, name: str) -> Document:
        """Give the current document.

        Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`, `SealKeyLost`; `NeedsUnlock` while its key is unavailable.
        """
        return self._read(name)[0]

    def header(self, name: str) -> Header | None:
        """Give the unencrypted part of a sealed document; None if it isn't sealed. Raises what `read` does."""
        path = self.path(name)
        raw = self._raw(name, path)
        fields = parse_object(raw)
        sealed = None if fields is None else parse_sealed(raw, fields, name, str(path))
        return None if sealed is None else sealed.header

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`. Raises `Conflict`, `StorageFailed`.

        In a sealed home the document is sealed. A new account may also raise `NeedsUnlock`, `SealKeyLost` and
        `UsageError`.
        """
        path = self.path(name)
        found: int | None = None
        key: SealKey | None = None
        with contextlib.suppress(UnknownAccount):
            document, key = self._read(name)
            found = document.generation
        if found != expected:
            raise Conflict(f"{path} was changed by another program; nothing was written")
        remove_leftovers(path, disk=self._disk)
        if new is None:
            remove_file(path, disk=self._disk)
            self._seal.note_used(name, None)
        elif expected is not None:
            key = self._seal.for_writing(key, is_new=False)
            self._write(path, replace(new, generation=expected + 1), key)
        else:
            self._write_new(name, replace(new, generation=1))

    def check_replaceable(self, name: str) -> None:
        """Raise `StorageFailed`, with the fix, if the document can't be replaced. Writes nothing."""
        self._disk.check_replaceable(self.path(name))

    def rewrite(self, name: str, key: SealKey | None, *, accept_clear: bool = False) -> None:
        """Seal the document with this key, or write it unencrypted. Needs `exclusive(name)`.

        Only `encryption` calls this. Raises what `read` does, except for an unencrypted document in a sealed home if
        that is accepted; `StorageFailed`.
        """
        document, _ = self._read(name, accept_clear=accept_clear)
        path = self.path(name)
        remove_leftovers(path, disk=self._disk)
        self._write(path, replace(document, generation=document.generation + 1), key)

    def _write_new(self, name: str, document: Document) -> None:
        """Write a new document, which a process that changes the home's sealing can't have seen."""
        self._seal.for_new()
        with self.naming(name):
            self._write(self.path(name), document, self._seal.for_new())

    @contextlib.contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Hold the one lock under which accounts are named.

        Raises `UsageError` for a name that differs from another only in case.
        """
        with self._seal.held():
            refuse_twin(name, [*self.names(), *Attachments(self._home.attached, disk=self._disk).names()])
            yield

    def _write(self, path: Path, document: Document, key: SealKey | None) -> None:
        data = HiddenBytes(document.to_bytes() if key is None else SealedDocument.seal(document, key).to_bytes())
        replace_private_file(path, data, disk=self._disk)

    def _read(self, name: str, *, accept_clear: bool = False) -> tuple[Document, SealKey | None]:
        """Give the document, and the key that sealed it."""
        path = self.path(name)
        raw = self._raw(name, path)
        fields = parse_object(raw)
        sealed = None if fields is None else parse_sealed(raw, fields, name, str(path))
        del raw  # a traceback shows the locals of this frame
        if sealed is None:
            if not accept_clear and self._seal.refuses_clear():
                raise CorruptFile(
                    f"{path} is in clear in a sealed home, so anybody who can write that folder may have put it there, "
                    f"and it is not used; if it is yours, run: tokenferry encryption enable --accept {name} (if not: "
                    f"tokenferry account remove {name})"
                )
            self._seal.note_used(name, None)
            return Document.from_fields(fields, name, str(path)), None
        key = self._key_of(name, sealed)
        document = sealed.open(key, str(path))
        self._replaced.check(str(path), sealed)
        self._seal.note_used(name, key)
        return document, key

    def _key_of(self, name: str, sealed: SealedDocument) -> SealKey:
        try:
            return self._seal.key(sealed.header.key)
        except SealKeyLost as fault:
            raise SealKeyLost(f"account {name!r} is sealed: {fault}") from None
        except NeedsUnlock as fault:
            raise NeedsUnlock(f"account {name!r} is sealed: {fault}") from None

    def _raw(self, name: str, path: Path) -> HiddenBytes:
        try:
            return HiddenBytes(self._disk.read(path))
        except FileNotFoundError:
            raise UnknownAccount.among("account", name, self.names(), "tokenferry account list") from None

    def discard(self, name: str) -> None:
        """Remove a document that can't be read. Needs `exclusive(name)`."""
        with contextlib.suppress(UnknownAccount, CorruptFile, UnsafeFile):
            self.read(name)
            raise Conflict(f"{self.path(name)} can be read; remove it by its generation")
        remove_file(self.path(name), disk=self._disk)

    def lock(self, name: str) -> FileLock:
        """Give a new lock of the account, not yet held."""
        return FileLock(self.path(name), self._home.locks)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        """Give, by account, a value that changes whenever its document does."""
        stamps = self._disk.stamps(self._home.accounts)
        return {
            name.removesuffix(_SUFFIX): stamp
            for name, stamp in stamps.items()
            if name.endswith(_SUFFIX) and not name.startswith(".")
        }
