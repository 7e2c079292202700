"""Keys that are fetched: from a command's output, or with Google's credentials."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import ClassVar, Final

from msgspec import Struct

from tokenferry.background import Pending, after_fork_in_child
from tokenferry.credentials import ApiKey
from tokenferry.errors import KeyCommandFailed
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document

_TIMEOUT: Final = 30.0
_PAUSE: Final = 30.0
"""Seconds for which a failure is cached, so that not every request asks a locked vault."""


class KeySettings(Struct, frozen=True):
    """The account whose key is fetched."""

    account: str
    provider: str


class KeySource(ABC):
    """Fetches an account's key, one run at a time, and caches it until the key's `until`.

    Thread-safe. A run has a thread of its own, so that an event loop only waits. `now` gives seconds since 1970 UTC.
    """

    store: ClassVar[str]

    def __init__(self, settings: KeySettings, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.account = Account(settings.account, settings.provider, "api-key", owner="external", store=self.store)
        self._now = now
        self._guard = threading.Lock()
        self._pending: Pending[ApiKey] | None = None
        self._last: ApiKey | KeyCommandFailed | None = None
        self._until = 0.0
        after_fork_in_child(self._forget_run)

    def pending(self, refused: Secret | None = None) -> Pending[ApiKey] | None:
        """Return the run to wait for, starting one if needed; None while the last result is valid.

        A key that the provider `refused` is no longer valid.
        """
        with self._guard:
            if self._pending is not None:
                return self._pending
            if self._now() < self._until and not (isinstance(self._last, ApiKey) and self._last.secret == refused):
                return None
            pending: Pending[ApiKey] = Pending()
            self._pending = pending
            name = f"tokenferry-key-{self.account.name}"
            threading.Thread(target=self._run, args=(pending,), name=name, daemon=True).start()
            return pending

    def document(self) -> Document:
        """Return the account with its key; blocks while it is fetched. Raises `KeyCommandFailed`."""
        if (pending := self.pending()) is not None:
            pending.wait(_TIMEOUT + 1)
        last = self._last
        if isinstance(last, ApiKey):
            return Document(self.account, last)
        if last is None:
            raise KeyCommandFailed(f"{self.subject} is still running; try again in a moment")
        raise copy(last)

    @property
    @abstractmethod
    def subject(self) -> str:
        """The source of the key, as the beginning of a sentence."""

    @abstractmethod
    def fetch(self) -> ApiKey:
        """Fetch the key with its `until`; may block. Raises `KeyCommandFailed`."""

    def failed(self, why: str) -> KeyCommandFailed:
        return KeyCommandFailed(f"{self.subject} {why}", retry_after=_PAUSE)

    def _run(self, pending: Pending[ApiKey]) -> None:
        found: ApiKey | None = None
        fault: KeyCommandFailed | None = None
        try:
            found = self.fetch()
        except KeyCommandFailed as caught:
            fault = caught
        except Exception as caught:  # noqa: BLE001  # the waiting callers must get it
            fault = self.failed(f"could not be run: {type(caught).__name__}")
        with self._guard:
            self._last = found or fault
            self._until = (found.until or 0.0) if found else self._now() + _PAUSE
            self._pending = None
        pending.end(found, fault)

    def _forget_run(self) -> None:
        """Reset in a forked child, where the parent's threads don't run."""
        self._guard, self._pending = threading.Lock(), None
