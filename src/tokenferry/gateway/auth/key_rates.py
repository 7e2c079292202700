"""How much each client key may ask for: requests and tokens a minute, and requests at a time."""

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

    `clock` gives seconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limiters: dict[str, RateLimiter] = {}
        self._share = EVERYTHING

    def share_with(self, share: Share) -> None:
        """Let this worker use so much of each cap from now on: others have the rest."""
        if share != self._share:
            self._share = share
            for limiter in self._limiters.values():
                limiter.configure(limiter.caps, share, self._clock())

    def admit(self, key: ClientKey, tokens: int) -> Permit:
        """Count a request that is expected to use so many tokens. Raises `GatewayError`: 429."""
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
            f"client key {key.name} has {limiter.reason(at, tokens)}, as many as it may; try again in {seconds} s, or "
            f"have it raised with: tokenferry key set {key.name}"
        )
        return key_rate_limited(message, seconds)

    def settle(self, permit: Permit, used: int | None) -> None:
        """The request has ended; `used` is None for as many tokens as were expected."""
        permit.settle(self._clock(), used)


def key_rate_limited(message: str, seconds: int) -> GatewayError:
    """The answer to a request that comes too early, by so many seconds."""
    return GatewayError(
        *(429, "rate_limit_error", message), should_retry=True, retry_after=seconds, cause="key_rate_limited"
    )
