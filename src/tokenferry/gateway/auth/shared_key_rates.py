"""Rates of client keys that gateways of several hosts serve: each reports what it charges, off the requests' way."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from tokenferry.errors import TokenferryError
from tokenferry.gateway.auth.guard import store_away
from tokenferry.gateway.auth.key_rates import KeyRates, key_rate_limited
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.rates import FleetRates, RateLimiter, RateReport, Share, SharedLimiter, SharedRates
from tokenferry.state import ClientKey

logger = logging.getLogger(__name__)

_ACTIVE: Final = 0.5
"""Seconds between two exchanges at most, while a key with caps is used."""
_IDLE: Final = 5.0
_PAUSE: Final = 0.05
_USED: Final = 5.0
_PATIENCE: Final = 5.0


class SharedKeyRates(KeyRates):
    """Admits requests by the caps of all hosts together. What it charges it reports, and follows the answer.

    It belongs to one event loop. `wake` is called where an exchange is due. `refuses_away` says whether requests are
    refused once there was no answer for 5 seconds; if not, this process uses its even part of each cap.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, refuses_away: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(clock)
        self._refuses_away = refuses_away
        self._lost_at: float | None = None
        self.wake: Callable[[], object] = lambda: None
        self._limiters: dict[str, SharedLimiter] = {}  # type: ignore[assignment]  # of this kind alone

    def share_with(self, share: Share) -> None:
        """Harmless: each worker is one of the processes that report."""

    def reports(self) -> list[RateReport]:
        """What is to be reported; `adopt` or `lose` follows."""
        recent = self._clock() - _USED
        return [
            limiter.report(key_id)
            for key_id, limiter in self._limiters.items()
            if limiter.has_news or limiter.busy or limiter.used_at > recent
        ]

    def adopt(self, found: FleetRates) -> None:
        """Go by the answer to the reports."""
        at, self._share, self._lost_at = self._clock(), found.share, None
        for key_id, use in found.uses.items():
            self._limiters[key_id].adopt(at, found.share, use)

    def lose(self, reports: Sequence[RateReport]) -> None:
        """There was no answer."""
        at = self._clock()
        if self._lost_at is None:
            self._lost_at = at
        for one in reports:
            self._limiters[one.subject].lose(at, self._share)

    def _find(self, key: ClientKey, at: float) -> SharedLimiter:
        if self._lost_at is not None and at - self._lost_at > _PATIENCE and self._refuses_away():
            raise store_away(f"what is left of the rates of client key {key.name} isn't known")
        limiter = self._limiters.get(key.id)
        if limiter is None:
            limiter = self._limiters[key.id] = SharedLimiter("its key", key.caps, self._share, at)
        elif limiter.caps is not key.caps:
            limiter.configure(key.caps, self._share, at)
        if limiter.is_due:
            self.wake()
        return limiter

    def _refusal(self, key: ClientKey, limiter: RateLimiter, at: float, tokens: int) -> GatewayError:
        assert isinstance(limiter, SharedLimiter)
        limiter.used_at = at
        self.wake()
        if not limiter.is_ahead:
            return super()._refusal(key, limiter, at, tokens)
        message = (
            f"client key {key.name} asks for much at once, and this gateway has to hear first what it had from the "
            f"others; try again in 1 s ({key.caps})"
        )
        return key_rate_limited(message, 1)


class RateExchange:
    """Exchanges what is charged with the other hosts, when that is due, and every half second while keys are used.

    No request waits for it.
    """

    def __init__(self, rates: SharedKeyRates, shared: SharedRates) -> None:
        self.rates = rates
        self._shared = shared
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_lost = False
        rates.wake = self._is_due.set

    async def start(self) -> None:
        """Learn how many gateways there are, and go on in the background."""
        await self._exchange()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give back what is held. Harmless before the start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(TokenferryError):  # else it counts for 20 seconds
                await asyncio.to_thread(self._shared.leave)

    async def _run(self) -> None:
        while True:
            reports = await self._exchange()
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_due.wait(), _ACTIVE if reports else _IDLE)

    async def _exchange(self) -> int:
        """Once; gives how many keys it was about."""
        self._is_due.clear()
        reports = self.rates.reports()
        try:
            found = await asyncio.to_thread(self._shared.exchange, reports)
        except TokenferryError as fault:
            self.rates.lose(reports)
            if not self._is_lost:
                logger.warning("client keys have an even part of their rates here, until it is known again: %s", fault)
            self._is_lost = True
        else:
            self.rates.adopt(found)
            self._is_lost = False
        return len(reports)
