"""Limits of client keys: requests and tokens per minute, and concurrent requests."""

import math
import time
from collections.abc import Callable
from typing import Final

from tokenferry.gateway.http.errors import GatewayError
from tokenferry.rates import EVERYTHING, Permit, RateLimiter, Share
from tokenferry.state import ClientKey

_LONGEST_WAIT: Final = 60


class KeyRates:
    """Admits requests of client keys by their caps. It belongs to one event loop.

    `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limiters: dict[str, RateLimiter] = {}
        self._share = EVERYTHING

    def share_with(self, share: Share) -> None:
        """Use this share of each cap; other workers have the rest."""
        if share != self._share:
            self._share = share
            for limiter in self._limiters.values():
                limiter.configure(limiter.caps, share, self._clock())

    def admit(self, key: ClientKey, tokens: int) -> Permit:
        """Admit a request that is expected to use `tokens`. Raises `GatewayError` (429)."""
        at = self._clock()
        limiter = self._find(key, at)
        if not limiter.has_slot or limiter.delay(at, tokens):
            raise self._refusal(key, limiter, at, tokens)
        return Permit((limiter,), at, tokens)

    def _find(self, key: ClientKey, at: float) -> RateLimiter:
        limiter = self._limiters.get(key.id)
        if limiter is None:
            limiter = self._limiters[key.id] = RateLimiter("its key", key.caps, self._share, at)
        elif limiter.caps is not key.caps:
            limiter.configure(key.caps, self._share, at)
        return limiter

    def _refusal(self, key: ClientKey, limiter: RateLimiter, at: float, tokens: int) -> GatewayError:
        seconds = min(max(math.ceil(limiter.delay(at, tokens)), 1), _LONGEST_WAIT)
        message = (
            f"client key {key.name} is limited to {limiter.reason(at, tokens)}; try again in {seconds} s, or "
            f"raise the limit with: tokenferry key set {key.name}"
        )
        return key_rate_limited(message, seconds)

    def settle(self, permit: Permit, used: int | None) -> None:
        """End a request. `used` are its tokens, None for the expected number."""
        permit.settle(self._clock(), used)


def key_rate_limited(message: str, seconds: int) -> GatewayError:
    """Give the error for a request that may be repeated after `seconds`."""
    return GatewayError(
        *(429, "rate_limit_error", message), should_retry=True, retry_after=seconds, cause="key_rate_limited"
    )
