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
"""Causes that concern the credential itself, on every route."""
PAUSED: Final = "paused"
"""The cause that blocks a paused account."""
_NEVER: Final = frozenset({"claude-code-only", PAUSED})
_BY_USAGE: Final = frozenset({"window", "rejected", "rate-limited", "overage"})


class Probes:
    """Schedules recovery probes: single live requests to accounts in a cooldown.

    They are needed because a stated end is only an upper bound, and a cooldown without one never ends by itself. A
    cooldown that ends within a minute is not probed. There is one probe at a time per cooldown, except for clients
    that may each try once.
    """

    def __init__(self) -> None:
        self._running: Counter[Key] = Counter()
        self._failed: dict[Key, int] = {}
        self._begun: dict[Key, float] = {}

    def due(self, account: PoolAccount, active: ActiveCooldown, now: float, *, is_last_resort: bool = False) -> float:
        """Give the time of the next probe in seconds since 1970 UTC. `is_last_resort`: no other account can serve."""
        one = active.cooldown
        key = key_of(one)
        if one.cause in _NEVER or key in self._running:
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
        self._running[key] += 1
        self._begun[key] = now

    def end(self, active: ActiveCooldown, *, has_failed: bool | None) -> None:
        """End a probe. `has_failed` is None for an unknown result."""
        key = key_of(active.cooldown)
        self._running[key] -= 1
        if self._running[key] <= 0:
            del self._running[key]
        if has_failed:
            self._failed[key] = self._failed.get(key, 0) + 1
        elif has_failed is not None:
            self._failed.pop(key, None)
