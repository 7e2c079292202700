"""The rolling windows of accounts: how much is used, when each ends, and when it may be used up."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from tokenferry.ledger import UsageReport, WindowPoint
from tokenferry.units import span

_DAY_MS: Final = 86_400_000
_BEFORE: Final = 8 * 86_400.0
"""Seconds before a line's start that are read, so that it begins with the state of a week's window."""
_LONGEST_MS: Final = 8 * _DAY_MS
_LATELY: Final = 3600.0
_LEAST: Final = 600.0
"""The least seconds for a rate."""


class WindowShare(Struct, frozen=True):
    """How much of an account's window is used, by its provider's last answer.

    Times are seconds since 1970 UTC. `dry_at` is when it will be used up at the last hour's rate, if before its end.
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
    """Return the open windows as last reported; `now` in seconds since 1970 UTC."""
    known = report.history(int(now * 1000) - _LONGEST_MS, int(now * 1000) + _DAY_MS)
    return [
        WindowShare(account, window, last.used, last.reset, last.at, last.status, _dry_at(points, now))
        for (account, window), points in sorted(known.items())
        if (last := points[-1]).reset > now
    ]


class WindowLine(Struct, frozen=True):
    """A window's usage over time as a chart's line; x is the time, y the free share, both from 0 to 1."""

    window: str
    points: tuple[tuple[float, float], ...]


def window_lines(report: UsageReport, account: str, since: float, until: float) -> list[WindowLine]:
    """Return the windows of an account between two moments, in seconds since 1970 UTC; an ended one is at zero."""
    known = report.history(int((since - _BEFORE) * 1000), int(until * 1000) + 1, account=account)
    return [
        WindowLine(window, tuple(_line(points, since, until)))
        for (_, window), points in sorted(known.items())
        if points[-1].reset > since
    ]


def _line(points: Sequence[WindowPoint], since: float, until: float) -> Iterator[tuple[float, float]]:
    def place(at: float, used: float) -> tuple[float, float]:
        return round((min(max(at, since), until) - since) / (until - since), 4), round(1 - min(used, 1.0), 4)

    last = None
    for point in points:
        if last is not None and last.reset < point.at:
            yield from (place(last.reset, last.used), place(last.reset, 0), place(point.at, 0))
        yield place(point.at, point.used)
        last = point
    if last is not None:
        yield place(last.reset, last.used)
        if last.reset < until:
            yield from (place(last.reset, 0), place(until, 0))


def _dry_at(points: Sequence[WindowPoint], now: float) -> float | None:
    last = points[-1]
    if last.used >= 1:
        return None
    first = last
    for point in reversed(points[:-1]):
        if point.at < now - _LATELY or point.used > first.used:  # too old, or from before the reset
            break
        first = point
    passed, grown = last.at - first.at, last.used - first.used
    if passed < _LEAST or grown <= 0:
        return None
    at = last.at + (1 - last.used) * passed / grown
    return at if now < at < last.reset else None
