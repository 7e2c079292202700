import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tokenferry.errors import CredentialRefused

_PER_HOUR: Final = 6
_HOUR: Final = 3600.0


class ForcedRenewals(Struct, frozen=True):
    """Renewals of an account's token that a refusal by the provider caused, in this process."""

    granted: int = 0
    capped: int = 0
    """Those that weren't begun, since there were too many within the hour."""


class Forced:
    """Caps forced renewals per account and hour: a token that is refused whenever it is new isn't what is wrong.

    Thread-safe. `now` gives seconds since 1970 UTC.
    """

    def __init__(self, now: Callable[[], float], *, most: int = _PER_HOUR) -> None:
        self._now = now
        self._most = most
        self._guard = threading.Lock()
        self._recent: dict[str, deque[float]] = {}
        self._granted: dict[str, int] = {}
        self._capped: dict[str, int] = {}

    def check(self, name: str) -> None:
        """Raise `CredentialRefused` where another one has to wait."""
        with self._guard:
            recent, now = self._recent.get(name), self._now()
            while recent and not 0 <= now - recent[0] < _HOUR:  # a clock that was set back counts for nothing
                recent.popleft()
            if not recent or len(recent) < self._most:
                return
            self._capped[name] = self._capped.get(name, 0) + 1
            minutes = int((recent[0] + _HOUR - now) / 60) + 1
        raise CredentialRefused(
            f"account {name!r}: the provider refused its token {self._most} times within an hour, however new; it is "
            f"renewed again in {minutes} min at the earliest: check that the account may use the API"
        )

    def note(self, name: str) -> None:
        """Count one that was granted."""
        with self._guard:
            self._recent.setdefault(name, deque(maxlen=self._most)).append(self._now())
            self._granted[name] = self._granted.get(name, 0) + 1

    def statistics(self, name: str) -> ForcedRenewals:
        with self._guard:
            return ForcedRenewals(self._granted.get(name, 0), self._capped.get(name, 0))
