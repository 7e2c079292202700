"""Days, weeks and months of a time zone, as spans of time."""

from collections.abc import Iterator
from datetime import date, timedelta, tzinfo
from typing import Literal, TypeAlias

from msgspec import Struct

from tokenferry.budgets import midnight

Grain: TypeAlias = Literal["daily", "weekly", "monthly"]


class Period(Struct, frozen=True):
    """From `start` to before `end`, in milliseconds since 1970 UTC."""

    label: str
    start: int
    end: int
    account: str = ""
    """The account of the period; empty for all."""


def periods(grain: Grain, since: date, until: date, zone: tzinfo) -> list[Period]:
    """Give the periods that contain the days from `since` to `until`, both included. Weeks begin on Monday."""
    starts = [*_starts(grain, since, until)]
    return [
        Period(
            f"{start:%Y-%m}" if grain == "monthly" else start.isoformat(),
            midnight(max(start, since), zone),
            midnight(min(_next(grain, start), until + timedelta(days=1)), zone),
        )
        for start in starts
    ]


def _starts(grain: Grain, since: date, until: date) -> Iterator[date]:
    start = since
    if grain == "weekly":
        start -= timedelta(days=start.weekday())
    elif grain == "monthly":
        start = start.replace(day=1)
    while start <= until:
        yield start
        start = _next(grain, start)


def _next(grain: Grain, start: date) -> date:
    if grain == "monthly":
        return (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start + timedelta(days=7 if grain == "weekly" else 1)
