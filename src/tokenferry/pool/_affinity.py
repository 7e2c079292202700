from collections import OrderedDict
from typing import Final

_MOST: Final = 10_000
_IDLE: Final = 3600.0  # the longest lifetime of a prompt in a provider's cache


class Affinity:
    """The account of a session, and the fallback that serves it during a short cooldown."""

    __slots__ = ("account", "fallback", "used_at")

    def __init__(self, account: str, used_at: float) -> None:
        self.account = account
        self.fallback: str | None = None
        self.used_at = used_at


class AffinityTable:
    """Remembers the account of each session: the `most` latest, until `idle` seconds after the last use."""

    def __init__(self, *, most: int = _MOST, idle: float = _IDLE) -> None:
        self._most = most
        self._idle = idle
        self._affinities: OrderedDict[tuple[str, str], Affinity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._affinities)

    def get(self, provider: str, key: str, at: float) -> Affinity | None:
        """Give the affinity of a session and mark it as used. `at` is in seconds of a monotonic clock."""
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
        """Give the affinity of a session without marking it as used."""
        affinity = self._affinities.get((provider, key)) if key else None
        return affinity if affinity is not None and at - affinity.used_at <= self._idle else None

    def pin(self, provider: str, key: str, account: str, at: float) -> None:
        self._affinities[provider, key] = Affinity(account, at)
        self._affinities.move_to_end((provider, key))
        if len(self._affinities) > self._most:
            self._affinities.popitem(last=False)
