import threading
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager

from msgspec.structs import replace

from tokenferry.errors import Conflict, LockTimeout, UnknownAccount
from tokenferry.stores._document import Document, refuse_twin
from tokenferry.stores._store import held


class MemoryStore:
    """Documents in this process only: for tests, and for programs that store their credentials elsewhere."""

    def __init__(self, *documents: Document) -> None:
        self._documents = {document.account.name: document for document in documents}
        self._changes = 0
        self._stamps = dict.fromkeys(self._documents, 0)
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def names(self) -> list[str]:
        """Give the accounts, sorted."""
        return sorted(self._documents)

    def read(self, name: str) -> Document:
        """Give the current document. Raises `UnknownAccount`."""
        try:
            return self._documents[name]
        except KeyError:
            raise UnknownAccount(f"account {name!r} not found in this memory store") from None

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`. Raises `Conflict`, `UsageError`."""
        with self._guard:
            current = self._documents.get(name)
            if (current.generation if current else None) != expected:
                raise Conflict(f"account {name!r} was changed by another program; nothing was written")
            if expected is None:
                refuse_twin(name, self._documents)
            self._changes += 1
            if new is None:
                self._documents.pop(name, None)
                self._stamps.pop(name, None)
            else:
                self._documents[name] = replace(new, generation=(expected or 0) + 1)
                self._stamps[name] = self._changes

    def discard(self, name: str) -> None:
        """Refuse: every document here can be read. Raises `Conflict`."""
        raise Conflict(f"account {name!r} can be read; remove it by its generation")

    def lock(self, name: str) -> "_ThreadLock":
        """Give a new lock of the account, not yet held."""
        with self._guard:
            return _ThreadLock(name, self._locks.setdefault(name, threading.Lock()))

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Hashable]:
        """Give, by account, the number of the change that made its document."""
        return self._stamps.copy()


class _ThreadLock:
    def __init__(self, name: str, lock: threading.Lock) -> None:
        self._name = name
        self._lock = lock
        self._is_held = False

    def acquire(self, timeout: float) -> None:
        if not self._lock.acquire(timeout=max(timeout, 0)):
            message = f"account {self._name!r} is in use by another thread; try again when it is done"
            raise LockTimeout(message, holder="another thread")
        self._is_held = True

    def is_still_ours(self) -> bool:
        return self._is_held

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._lock.release()
