import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tokenferry.errors import CredentialRefused

_PER_HOUR: Final = 6
_HOUR: Final = 3600.0


class ForcedRenewals(Struct, frozen=True):
    """Renewals of an account's token after a refusal by the provider, in this process."""

    granted: int = 0
    capped: int = 0
    """Those not started because of too many within the hour."""


class Forced:
    """Caps forced renewals per account and hour: if every new token is refused, the token isn't the cause.

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
        """Raise `CredentialRefused` if the cap is reached."""
        with self._guard:
            recent, now = self._recent.get(name), self._now()
            while recent and not 0 <= now - recent[0] < _HOUR:  # ignore entries from before the clock was set back
                recent.popleft()
            if not recent or len(recent) < self._most:
                return
            self._capped[name] = self._capped.get(name, 0) + 1
            minutes = int((recent[0] + _HOUR - now) / 60) + 1
        raise CredentialRefused(
            f"account {name!r}: the provider refused {self._most} new tokens of it within an hour; it is "
            f"renewed again in {minutes} min at the earliest; check that the account may use the API"
        )

    def note(self, name: str) -> None:
        """Count a granted renewal."""
        with self._guard:
            self._recent.setdefault(name, deque(maxlen=self._most)).append(self._now())
            self._granted[name] = self._granted.get(name, 0) + 1

    def statistics(self, name: str) -> ForcedRenewals:
        with self._guard:
            return ForcedRenewals(self._granted.get(name, 0), self._capped.get(name, 0))
