from collections import OrderedDict
from typing import Final

_MOST: Final = 10_000
_IDLE: Final = 3600.0  # the longest that a provider keeps a prompt in its cache


class Affinity:
    """The account a conversation lives on, and the one that stands in for it during a detour."""

    __slots__ = ("account", "guest", "used_at")

    def __init__(self, account: str, used_at: float) -> None:
        self.account = account
        self.guest: str | None = None
        self.used_at = used_at


class AffinityTable:
    """Remembers which account each conversation lives on: the latest ones, and none that nobody used for an hour."""

    def __init__(self, *, most: int = _MOST, idle: float = _IDLE) -> None:
        self._most = most
        self._idle = idle
        self._homes: OrderedDict[tuple[str, str], Affinity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._homes)

    def get(self, provider: str, key: str, at: float) -> Affinity | None:
        """`at` is in seconds of a clock that doesn't jump."""
        home = self._homes.get((provider, key))
        if home is None:
            return None
        if at - home.used_at > self._idle:
            del self._homes[provider, key]
            return None
        home.used_at = at
        self._homes.move_to_end((provider, key))
        return home

    def peek(self, provider: str, key: str, at: float) -> Affinity | None:
        """The same, without counting as its use."""
        home = self._homes.get((provider, key)) if key else None
        return home if home is not None and at - home.used_at <= self._idle else None

    def settle(self, provider: str, key: str, account: str, at: float) -> None:
        self._homes[provider, key] = Affinity(account, at)
        self._homes.move_to_end((provider, key))
        if len(self._homes) > self._most:
            self._homes.popitem(last=False)
