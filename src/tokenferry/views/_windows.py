"""Limits of accounts that roll over: how much of each is used, when it ends, and when it may run dry."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from tokenferry.ledger import UsageReport, WindowPoint
from tokenferry.units import span

_DAY_MS: Final = 86_400_000
_LONGEST_MS: Final = 8 * _DAY_MS
_LATELY: Final = 3600.0
_LEAST: Final = 600.0
"""A rate needs at least so many seconds."""


class WindowShare(Struct, frozen=True):
    """How much of an account's window is used, as its provider's answers said last.

    Times are seconds since 1970 UTC. `dry_at` is an estimate, by the rate of the last hour: when all of it is used, if
    that is before it ends.
    """

    account: str
    window: str
    used: float
    reset: float
    seen_at: float = 0.0
    status: str = ""
    dry_at: float | None = None

    def sentence(self, now: float) -> str:
        return f"{self.account}: {self.used:.0%} of {self.window} used, resets in {span(self.reset - now)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "account": self.account,
            "window": self.window,
            "used": self.used,
            "resets_at": int(self.reset),
            "dry_at": None if self.dry_at is None else int(self.dry_at),
        }


def open_windows(report: UsageReport, now: float) -> list[WindowShare]:
    """The windows that have not ended, as answers reported them last; `now` in seconds since 1970 UTC."""
    known = report.history(int(now * 1000) - _LONGEST_MS, int(now * 1000) + _DAY_MS)
    return [
        WindowShare(account, window, last.used, last.reset, last.at, last.status, _dry_at(points, now))
        for (account, window), points in sorted(known.items())
        if (last := points[-1]).reset > now
    ]


def _dry_at(points: Sequence[WindowPoint], now: float) -> float | None:
    last = points[-1]
    if last.used >= 1:
        return None
    first = last
    for point in reversed(points[:-1]):
        if point.at < now - _LATELY or point.used > first.used:  # long ago, or before it rolled over
            break
        first = point
    passed, grown = last.at - first.at, last.used - first.used
    if passed < _LEAST or grown <= 0:
        return None
    at = last.at + (1 - last.used) * passed / grown
    return at if now < at < last.reset else None
