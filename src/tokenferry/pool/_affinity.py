from collections import OrderedDict
from typing import Final

_MOST: Final = 10_000
_IDLE: Final = 3600.0  # the longest that a provider keeps a prompt in its cache


class Affinity:
    """The account a conversation lives on, and the one that stands in for it during a detour."""

    __slots__ = ("account", "fallback", "used_at")

    def __init__(self, account: str, used_at: float) -> None:
        self.account = account
        self.fallback: str | None = None
        self.used_at = used_at


class AffinityTable:
    """Remembers which account each conversation lives on: the latest ones, and none that was not used for an hour."""

    def __init__(self, *, most: int = _MOST, idle: float = _IDLE) -> None:
        self._most = most
        self._idle = idle
        self._affinities: OrderedDict[tuple[str, str], Affinity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._affinities)

    def get(self, provider: str, key: str, at: float) -> Affinity | None:
        """`at` is in seconds of a clock that doesn't jump."""
        affinity = self._affinities.get((provider, key))
        if affinity is None:
            return None
        if at - affinity.used_at > self._idle:
            del self._affinities[provider, key]
            return None
        affinity.used_at = at
        self._affinities.move_to_end((provider, key))
        return affinity

    def peek(self, provider: str, key: str, at: float) -> Affinity | None:
        """The same, without counting as its use."""
        affinity = self._affinities.get((provider, key)) if key else None
        return affinity if affinity is not None and at - affinity.used_at <= self._idle else None

    def pin(self, provider: str, key: str, account: str, at: float) -> None:
        self._affinities[provider, key] = Affinity(account, at)
        self._affinities.move_to_end((provider, key))
        if len(self._affinities) > self._most:
            self._affinities.popitem(last=False)
