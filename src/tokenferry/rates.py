"""Limits of requests and tokens per minute, by the generic cell rate algorithm (GCRA).

The same limiter serves both sides: client keys at the gateway, accounts and providers at the upstream. It does no I/O;
each call gets the time, in seconds of a monotonic clock.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from tokenferry.settings import Caps

__all__ = [
    "EVERYTHING",
    "FleetRates",
    "GcraBucket",
    "Permit",
    "RateLimiter",
    "RateReport",
    "Share",
    "SharedLimiter",
    "SharedRates",
    "SubjectUse",
]

_MINUTE: Final = 60.0
_INSTANT: Final = 1e-6


class Share(NamedTuple):
    """One worker's part of a limit: its number among the running workers, from 0, and how many run."""

    number: int = 0
    workers: int = 1

    def of(self, most: int) -> int:
        """The worker's part of a number. The parts add up to the number, except that each is at least 1."""
        return max(most // self.workers + (self.number < most % self.workers), 1)


EVERYTHING: Final = Share()


class GcraBucket:
    """Allows `per_second` units on average, and `burst` at once.

    A larger request passes when nothing is owed; later requests then wait longer.
    """

    __slots__ = ("burst", "full_at", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self.full_at = 0.0
        """When nothing will be owed: the theoretical arrival time of GCRA."""

    def delay(self, at: float, units: float, ahead: float = 0.0) -> float:
        """Seconds until this many units conform, behind the units of others that wait (`ahead`)."""
        owed = max(self.full_at - at, 0.0) + (ahead + min(units, self.burst) - self.burst) / self.per_second
        return owed if owed > _INSTANT else 0.0

    def charge(self, at: float, units: float) -> None:
        """Add units to what is owed; a negative number returns them."""
        self.full_at = max(self.full_at, at) + units / self.per_second

    def set_rate(self, at: float, per_second: float, burst: float) -> None:
        """Change the rate from now on. The units owed stay the same."""
        owed = max(self.full_at - at, 0.0) * self.per_second
        self.per_second, self.burst = per_second, burst
        self.full_at = at + owed / per_second

    def room(self, at: float) -> float:
        """How many units conform now; negative where some are owed beyond `burst`."""
        return self.burst - max(self.full_at - at, 0.0) * self.per_second

    def let_through(self, at: float, units: float) -> None:
        """Make room for up to this many units, at most `burst`, whatever was owed."""
        self.full_at = at + (self.burst - min(units, self.burst)) / self.per_second


class RateLimiter:
    """The caps of one subject, in this worker's share: requests and tokens per minute, and requests at a time."""

    __slots__ = ("_requests", "_tokens", "busy", "caps", "is_limited", "most", "where")

    def __init__(self, where: str, caps: Caps, share: Share = EVERYTHING, at: float = 0.0) -> None:
        self.where = where
        """Where its caps are set, for messages."""
        self.busy = 0
        """Requests under way."""
        self._requests: GcraBucket | None = None
        self._tokens: GcraBucket | None = None
        self.configure(caps, share, at)

    def configure(self, caps: Caps, share: Share, at: float) -> None:
        """Change the caps from now on. Requests under way and units owed still count."""
        self.caps = caps
        self.is_limited = caps.is_limited
        self.most = share.of(caps.max_concurrency) if caps.max_concurrency else 0
        parts = share.workers * _MINUTE
        burst = max(caps.burst / share.workers, 1.0)
        self._requests = _bucket(self._requests, at, caps.requests_per_minute / parts, burst)
        tokens = caps.tokens_per_minute / parts
        self._tokens = _bucket(self._tokens, at, tokens, tokens * _MINUTE)

    @property
    def has_slot(self) -> bool:
        """Whether its cap on requests at a time allows another one."""
        return not self.most or self.busy < self.most

    def delay(self, at: float, tokens: int, ahead: tuple[float, float] = (0.0, 0.0)) -> float:
        """Seconds until a request of this many tokens conforms, behind the waiting requests and tokens in `ahead`."""
        seconds = 0.0
        if self._requests is not None:
            seconds = self._requests.delay(at, 1, ahead[0])
        if self._tokens is not None and tokens:
            seconds = max(seconds, self._tokens.delay(at, tokens, ahead[1]))
        return seconds

    def reason(self, at: float, tokens: int = 0) -> str:
        """Why no request conforms now; empty if one does."""
        if not self.has_slot:
            return f"{self.caps.max_concurrency} requests at a time"
        if self._requests is not None and self._requests.delay(at, 1):
            return f"{self.caps.requests_per_minute:,.10g} requests a minute"
        if self._tokens is not None and self._tokens.delay(at, tokens or 1):
            return f"{self.caps.tokens_per_minute:,.10g} tokens a minute"
        return ""

    def charge(self, at: float, requests: int, tokens: float) -> None:
        """Count these requests and tokens; negative numbers return them."""
        if self._requests is not None and requests:
            self._requests.charge(at, requests)
        if self._tokens is not None and tokens:
            self._tokens.charge(at, tokens)


class RateReport(NamedTuple):
    """What one process has charged to a subject since its last report, and what it has under way."""

    subject: str
    requests: float
    tokens: float
    busy: int
    caps: Caps


class SubjectUse(NamedTuple):
    """What all processes together owe of a subject's rates, and what the others have under way."""

    requests: float
    tokens: float
    busy_elsewhere: int


class FleetRates(NamedTuple):
    """The result of an exchange."""

    share: Share
    """Its number among the processes that live, and how many live."""
    uses: Mapping[str, SubjectUse]
    """By the subject of each report."""


class SharedRates(Protocol):
    """Adds up what the processes of several hosts have charged."""

    def exchange(self, reports: Sequence[RateReport]) -> FleetRates:
        """Add what was charged, and give the sums. Waits for the database. Raises `StorageFailed`."""
        ...

    def leave(self) -> None:
        """Record that this process has nothing in progress. Raises `StorageFailed`."""
        ...


class SharedLimiter(RateLimiter):
    """The limits of a subject that several processes share. They exchange what they charged now and then.

    Until it has the others' numbers, a process may run ahead by half of its even part of the burst and of the requests
    at a time, by at least one request; then by its even part of the rate. So together they exceed a limit by at most
    half of the burst, or one request each, plus what the rate allows between two exchanges.
    """

    __slots__ = ("_ahead", "_charged", "_elsewhere", "_lent", "_reported", "is_ahead", "used_at")

    def __init__(self, where: str, caps: Caps, share: Share = EVERYTHING, at: float = 0.0) -> None:
        self.used_at = at
        self.is_ahead = True
        """Whether this process may let more through before the next exchange."""
        self._charged = self._lent = (0.0, 0.0)
        """Requests and tokens since the last report, and in a report without an answer."""
        self._reported = self._elsewhere = 0
        """Requests in progress here that the others know of, and those of the others."""
        super().__init__(where, caps, share, at)

    def configure(self, caps: Caps, share: Share, at: float) -> None:
        buckets = (self._requests, self._tokens)
        rooms = [math.inf if one is None else one.room(at) for one in buckets]
        super().configure(caps, share, at)
        parts = 1 if share.workers == 1 else 2 * share.workers
        slots = max(caps.max_concurrency // parts, 1)
        self._ahead = max(caps.burst / parts, 1.0), max(caps.tokens_per_minute / parts, 1.0), slots
        for bucket, room, most in zip((self._requests, self._tokens), rooms, self._ahead[:2], strict=True):
            if bucket is not None:
                bucket.burst = most
                bucket.let_through(at, room)
        if caps.max_concurrency:
            free = max(caps.max_concurrency - self._elsewhere, 0)
            self.most = min(free, self._reported + slots) or -1  # 0 is no limit

    def charge(self, at: float, requests: int, tokens: float) -> None:
        super().charge(at, requests, tokens)
        self._charged = self._charged[0] + requests, self._charged[1] + tokens
        self.used_at = at

    @property
    def is_due(self) -> bool:
        """Tell whether half of what it may let through before the next exchange is used."""
        used = (*self._charged, self.busy - self._reported)
        capped = (self._requests is not None, self._tokens is not None, self.most != 0)
        return any(2 * one >= most for one, most, is_capped in zip(used, self._ahead, capped, strict=True) if is_capped)

    @property
    def has_news(self) -> bool:
        return any(self._charged) or self.busy != self._reported

    def report(self, subject: str) -> RateReport:
        """Give what the others need to know. Call `adopt` or `lose` before the next report."""
        self._lent, self._charged, self._reported = self._charged, (0.0, 0.0), self.busy
        requests, tokens = self._lent
        return RateReport(
            subject, requests * (self._requests is not None), tokens * (self._tokens is not None), self.busy, self.caps
        )

    def adopt(self, at: float, share: Share, use: SubjectUse) -> None:
        """Use what all processes together have charged and have in progress."""
        self._lent, self._elsewhere = (0.0, 0.0), use.busy_elsewhere
        self.configure(self.caps, share, at)
        self.is_ahead = self.caps.max_concurrency - use.busy_elsewhere > self.most > 0
        left = self.caps.burst - use.requests, self.caps.tokens_per_minute - use.tokens
        for bucket, rest, most, charged in zip(
            (self._requests, self._tokens), left, self._ahead[:2], self._charged, strict=True
        ):
            if bucket is not None:
                bucket.let_through(at, min(rest, most) - charged)
                self.is_ahead |= rest > most

    def lose(self, at: float, share: Share) -> None:
        """Note that the report got no answer. It may have arrived, and is repeated; until then use the even part."""
        self._charged = tuple(map(sum, zip(self._charged, self._lent, strict=True)))  # type: ignore[assignment]  # two
        self._lent, self.is_ahead = (0.0, 0.0), False
        rooms = [math.inf if one is None else one.room(at) for one in (self._requests, self._tokens)]
        super().configure(self.caps, share, at)
        for bucket, room in zip((self._requests, self._tokens), rooms, strict=True):
            if bucket is not None:
                bucket.let_through(at, room)


def _bucket(bucket: GcraBucket | None, at: float, per_second: float, burst: float) -> GcraBucket | None:
    if not per_second:
        return None
    if bucket is None:
        return GcraBucket(per_second, burst)
    bucket.set_rate(at, per_second, burst)
    return bucket


class Permit:
    """A request's slot and expected tokens in some limiters, held until it ends."""

    __slots__ = ("_is_held", "_limiters", "reserved")

    def __init__(self, limiters: Sequence[RateLimiter], at: float, tokens: int) -> None:
        self._limiters = limiters
        self.reserved = tokens
        """The tokens that it is expected to use, until it is settled."""
        self._is_held = True
        for one in limiters:
            one.busy += 1
            if one.is_limited:
                one.charge(at, 1, tokens)

    def renew(self, at: float) -> float:
        """Count another request with the same tokens; return the seconds until it conforms."""
        delay = 0.0
        for one in self._limiters:
            if one.is_limited:
                delay = max(delay, one.delay(at, 0))
                one.charge(at, 1, 0)
        return delay

    def return_request(self, at: float) -> None:
        """Take back the last counted request, which was not sent."""
        for one in self._limiters:
            one.charge(at, -1, 0)

    def resume(self) -> None:
        """Take the slot again, because the answer continues. This may exceed the cap by one."""
        if not self._is_held:
            self._is_held = True
            for one in self._limiters:
                one.busy += 1

    def settle(self, at: float, used: int | None) -> bool:
        """Return the slot, and count the used tokens; None for as many as expected.

        Only the first call has an effect, and only it returns True.
        """
        if not self._is_held:
            return False
        self._is_held = False
        more = 0 if used is None else used - self.reserved
        for one in self._limiters:
            one.busy -= 1
            if more and one.is_limited:
                one.charge(at, 0, more)
        self.reserved = 0
        return True
