import math
from collections import Counter
from typing import Final

from tokenferry.pool._account import PoolAccount
from tokenferry.pool._cooldowns import ActiveCooldown, Key, key_of

_SHORT: Final = 60.0
_FIRST: Final = 60.0
_LONGEST: Final = 1800.0
_DOUBLINGS: Final = 5
_MOST: Final = 10_000
OF_CREDENTIALS: Final = frozenset({"refused", "claude-code-only"})
"""What is said of a credential, wherever it is presented."""
PAUSED: Final = "paused"
"""The cause that blocks an account whose owner has paused it."""
_NEVER: Final = frozenset({"claude-code-only", PAUSED})
_BY_USAGE: Final = frozenset({"window", "rejected", "rate-limited", "overage"})


class Probes:
    """When an account in a cooldown gets one live request, to find out whether it has recovered. One at a time each.

    The end that a provider names is an upper bound, and a cooldown without one would never end by itself. One that
    ends within a minute isn't probed. Clients that may ask once each are not held up by a probe of others.
    """

    def __init__(self) -> None:
        self._under_way: Counter[Key] = Counter()
        self._failed: dict[Key, int] = {}
        self._begun: dict[Key, float] = {}

    def due(self, account: PoolAccount, active: ActiveCooldown, now: float, *, is_last_resort: bool = False) -> float:
        """When it may be probed, in seconds since 1970 UTC. `is_last_resort`: no other could serve the request."""
        one = active.cooldown
        key = key_of(one)
        if one.cause in _NEVER or key in self._under_way:
            return math.inf
        is_short = active.until - (one.noted_at if is_last_resort else now) <= _SHORT
        if is_short or (one.cause in _BY_USAGE and account.has_usage_url and not is_last_resort):
            return math.inf
        failed = 0 if is_last_resort else min(self._failed.get(key, 0), _DOUBLINGS)
        return max(one.noted_at, self._begun.get(key, 0.0)) + min(_FIRST * 2.0**failed, _LONGEST)

    def begin(self, active: ActiveCooldown, now: float) -> None:
        key = key_of(active.cooldown)
        if len(self._begun) >= _MOST:
            self._begun.clear()
            self._failed.clear()
        self._under_way[key] += 1
        self._begun[key] = now

    def end(self, active: ActiveCooldown, *, has_failed: bool | None) -> None:
        """`has_failed` is None where nothing was found out."""
        key = key_of(active.cooldown)
        self._under_way[key] -= 1
        if self._under_way[key] <= 0:
            del self._under_way[key]
        if has_failed:
            self._failed[key] = self._failed.get(key, 0) + 1
        elif has_failed is not None:
            self._failed.pop(key, None)
