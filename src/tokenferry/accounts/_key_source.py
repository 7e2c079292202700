"""A key that has to be fetched: by a command that prints it, or with Google's credentials."""

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
"""Seconds for which a failure stands: a locked vault is not asked by each request."""


class KeySettings(Struct, frozen=True):
    """Of which account the key is fetched."""

    account: str
    provider: str


class KeySource(ABC):
    """Fetches an account's key, one run at a time, and keeps it until the key says.

    Any thread may use it. A run is on a thread of its own, so that an event loop only waits. `now` gives seconds since
    1970 UTC.
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
        """The run to wait for, begun where none is under way; None while what the last one gave holds.

        A key that the provider `refused` no longer does.
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
        """The account with its key; blocks while that is fetched. Raises `KeyCommandFailed`."""
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
        """What fetches the key, as the beginning of a sentence."""

    @abstractmethod
    def fetch(self) -> ApiKey:
        """The key, and until when it holds; it may block. Raises `KeyCommandFailed`."""

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
        """In a forked child: the parent's threads don't run here."""
        self._guard, self._pending = threading.Lock(), None
