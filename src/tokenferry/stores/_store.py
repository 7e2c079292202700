from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tokenferry.stores._document import Account, Document

if TYPE_CHECKING:
    from tokenferry.stores._seal import Seal
    from tokenferry.stores._sealed import Header


class Lock(Protocol):
    """An exclusive lock on one account's document, for all who share the store."""

    def acquire(self, timeout: float) -> None:
        """Wait `timeout` seconds at most. Raises `LockTimeout` naming the holder."""
        ...

    def is_still_ours(self) -> bool:
        """Whether it is held, and no other process took it over or removed its file."""
        ...

    def release(self) -> None:
        """Let go; harmless when it isn't held."""
        ...


@contextmanager
def held(lock: Lock, timeout: float) -> Iterator[None]:
    """Hold a lock for a block. Raises what taking it does, `LockTimeout` among that."""
    lock.acquire(timeout)
    try:
        yield
    finally:
        lock.release()


@runtime_checkable
class Replacing(Protocol):
    """A store that can tell, before a refresh token is used up, whether its successor could be written."""

    def check_replaceable(self, name: str) -> None:
        """Raise what keeps the account's document from being replaced, with the cure. Nothing is written."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """A store where an equal generation doesn't mean an equal document."""

    def publish(self, name: str, expected: int, new: Document, presented: str) -> None:
        """Replace the document as `swap` does, if it holds the refresh token that was presented (sha256)."""
        ...


@runtime_checkable
class Sealable(Protocol):
    """A store whose documents may be sealed, with a header in clear."""

    @property
    def seal(self) -> "Seal": ...

    def header(self, name: str) -> "Header | None":
        """Give the unencrypted header of a sealed document; None for one that isn't sealed. Raises what `read` does."""
        ...

    def place(self, name: str) -> str:
        """The place of the account's document, for people."""
        ...


@runtime_checkable
class Attaching(Protocol):
    """A store to which accounts can be added whose credentials another program stores."""

    @property
    def files(self) -> "Store":
        """The accounts whose credentials are stored here."""
        ...

    def attach(self, account: Account) -> None: ...
    def amend(self, account: Account) -> None: ...
    def detach(self, name: str) -> None: ...
    def is_attached(self, name: str) -> bool: ...


class Follow(Protocol):
    """Has a reader called whenever a table has changed, and `forget` once the table can't be read for too long.

    Tells whether it does, which not every database can.
    """

    def __call__(self, table: str, read: Callable[[], object], forget: Callable[[], object], /) -> bool: ...


@runtime_checkable
class Mirror(Protocol):
    """The documents as this process knows them, a moment behind. Its methods raise what those of the store do.

    Reading it waits for no database, and raises `StoreAway` once what it knows is too old.
    """

    def follow(self, follow: Follow) -> None:
        """Have `follow` say when they have changed, so that no caller has to ask."""
        ...

    def notify(self, changed: Callable[[], object]) -> None:
        """Have `changed` called after each change, on another thread."""
        ...

    def names(self) -> list[str]: ...
    def read(self, name: str) -> Document: ...
    def header(self, name: str) -> "Header | None": ...
    def stamps(self) -> Mapping[str, Hashable]: ...


@runtime_checkable
class Mirrored(Protocol):
    """A store that several hosts share, so that reading it takes its time."""

    @property
    def mirror(self) -> Mirror: ...


class Store(Protocol):
    """Stores credentials. Any object with these methods will do."""

    def names(self) -> list[str]:
        """The accounts it holds, sorted."""
        ...

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
        ...

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`; None stands for "there is none".

        Only for the holder of `exclusive(name)`. It is durable on return. Raises `Conflict` (nothing was written),
        `StorageFailed` (the old document is unchanged), and `UsageError` for a new account whose name differs from
        another's in case alone.
        """
        ...

    def discard(self, name: str) -> None:
        """Remove an unreadable document; for the holder of `exclusive(name)`. Raises `Conflict` for a readable one."""
        ...

    def lock(self, name: str) -> Lock:
        """A new lock object for the account, not yet held."""
        ...

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        ...

    def stamps(self) -> Mapping[str, Hashable]:
        """By account, a value that changes whenever its document does; cheap enough to ask twice a second."""
        ...
