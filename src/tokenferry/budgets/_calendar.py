"""Periods of budgets: days, weeks and months of a time zone. Times are milliseconds since 1970 UTC."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal, NamedTuple, TypeAlias

PeriodName: TypeAlias = Literal["day", "week", "month", "total"]

FOREVER: Final = 4_102_444_800_000
"""The end of `total`."""
_SECOND: Final = 1000


class Span(NamedTuple):
    """From `start`, inclusive, until `end`, exclusive."""

    start: int
    end: int


def span_of(period: PeriodName, at: float, zone: tzinfo = UTC, first_weekday: int = 0) -> Span:
    """The period that contains a time in seconds since 1970 UTC; Monday is weekday 0."""
    if period == "total":
        return Span(0, FOREVER)
    day = datetime.fromtimestamp(min(max(at, 0.0), FOREVER / _SECOND - 1), zone).date()
    if period == "week":
        day -= timedelta(days=(day.weekday() - first_weekday) % 7)
    elif period == "month":
        day = day.replace(day=1)
    return Span(midnight(day, zone), midnight(_next(period, day), zone))


def midnight(day: date, zone: tzinfo) -> int:
    """When a day begins. If the clock is changed at midnight, that is the first moment of the day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * _SECOND)


def _next(period: PeriodName, day: date) -> date:
    if period == "month":
        return (day + timedelta(days=32)).replace(day=1)
    return day + timedelta(days=7 if period == "week" else 1)
