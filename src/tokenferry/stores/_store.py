from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tokenferry.stores._document import Account, Document

if TYPE_CHECKING:
    from tokenferry.stores._seal import Seal
    from tokenferry.stores._sealed import Header


class Lock(Protocol):
    """An exclusive lock of one account's document, for all users of the store."""

    def acquire(self, timeout: float) -> None:
        """Wait up to `timeout` seconds. Raises `LockTimeout` with the holder."""
        ...

    def is_still_ours(self) -> bool:
        """Tell whether it is held, and no other process took it over or removed its file."""
        ...

    def release(self) -> None:
        """Release it; do nothing if it isn't held."""
        ...


@contextmanager
def held(lock: Lock, timeout: float) -> Iterator[None]:
    """Hold a lock for a block. Raises what `acquire` does."""
    lock.acquire(timeout)
    try:
        yield
    finally:
        lock.release()


@runtime_checkable
class Replacing(Protocol):
    """A store that can tell before a refresh whether the new token could be written."""

    def check_replaceable(self, name: str) -> None:
        """Raise the reason why the document can't be replaced, with the fix. Writes nothing."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """A store in which two documents with one generation may differ."""

    def publish(self, name: str, expected: int, new: Document, presented: str) -> None:
        """Replace the document as `swap` does, if it holds the presented refresh token (sha256)."""
        ...


@runtime_checkable
class Sealable(Protocol):
    """A store whose documents may be sealed, with an unencrypted header."""

    @property
    def seal(self) -> "Seal": ...

    def header(self, name: str) -> "Header | None":
        """Give the unencrypted header of a sealed document; None if it isn't sealed. Raises what `read` does."""
        ...

    def place(self, name: str) -> str:
        """Give the document's place, for people."""
        ...


@runtime_checkable
class Attaching(Protocol):
    """A store that can attach accounts whose credentials another program stores."""

    @property
    def files(self) -> "Store":
        """The accounts whose credentials are stored here."""
        ...

    def attach(self, account: Account) -> None: ...
    def amend(self, account: Account) -> None: ...
    def detach(self, name: str) -> None: ...
    def is_attached(self, name: str) -> bool: ...


class Follow(Protocol):
    """Asks for a call of the reader after each change of a table, and of `forget` once the table is out of date.

    Gives False if the database doesn't support that.
    """

    def __call__(self, table: str, read: Callable[[], object], forget: Callable[[], object], /) -> bool: ...


@runtime_checkable
class Mirror(Protocol):
    """The documents as this process knows them, a moment behind the database.

    Its methods raise what those of the store do. Reading it never waits, and raises `StoreAway` once its content is too
    old.
    """

    def follow(self, follow: Follow) -> None:
        """Let `follow` report changes, so that no caller has to ask."""
        ...

    def notify(self, changed: Callable[[], object]) -> None:
        """Ask for a call of `changed`, on another thread, after each change."""
        ...

    def names(self) -> list[str]: ...
    def read(self, name: str) -> Document: ...
    def header(self, name: str) -> "Header | None": ...
    def stamps(self) -> Mapping[str, Hashable]: ...


@runtime_checkable
class Mirrored(Protocol):
    """A store that several hosts share, so that reading it may wait."""

    @property
    def mirror(self) -> Mirror: ...


class Store(Protocol):
    """Stores credentials. An object with these methods is enough."""

    def names(self) -> list[str]:
        """Give the accounts, sorted."""
        ...

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
        ...

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`; None means "no document".

        Needs `exclusive(name)`. Durable on return. Raises `Conflict` (nothing was written), `StorageFailed` (the old
        document is unchanged), and `UsageError` for a new name that differs from another only in case.
        """
        ...

    def discard(self, name: str) -> None:
        """Remove an unreadable document. Needs `exclusive(name)`. Raises `Conflict` for a readable one."""
        ...

    def lock(self, name: str) -> Lock:
        """Give a new lock of the account, not yet held."""
        ...

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        ...

    def stamps(self) -> Mapping[str, Hashable]:
        """Give, by account, a value that changes whenever its document does. Cheap enough for two calls a second."""
        ...
