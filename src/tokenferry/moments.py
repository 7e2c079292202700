"""Reads times and time zones in the forms that people write."""

import contextlib
import os
import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tokenferry.config_key import parse_duration
from tokenferry.errors import UsageError

__all__ = ["later_moment", "moment_after", "zone_of"]

_MORNING: Final = time(8)
_CLOCK: Final = re.compile(r"(?:(tomorrow)(?: |$))?(?:([01]?\d|2[0-3]):([0-5]\d))?", re.ASCII)
_MOST: Final = 80


def later_moment(text: str, now: float, zone: tzinfo) -> datetime:
    """Read a time after `now` (seconds since 1970 UTC): `18:30`, `tomorrow` (8:00), `tomorrow 9:30`, a date, RFC 3339.

    A time without an offset is in `zone`; a date means its midnight. Raises `UsageError`, also for a past time.
    """
    text = text.strip()
    today = datetime.fromtimestamp(now, zone)
    found = _CLOCK.fullmatch(text)
    try:
        if found is not None and text:
            at = _MORNING if found[2] is None else time(int(found[2]), int(found[3]))
            moment = datetime.combine(today.date(), at, zone)
            if found[1] or moment.timestamp() <= now:
                moment = datetime.combine(today.date() + timedelta(days=1), at, zone)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        is_ahead = moment.timestamp() > now
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:_MOST]!r} is not a time; write 18:30, tomorrow, tomorrow 9:30, 2026-12-01 or 2026-12-01T08:00"
        ) from None
    if not is_ahead:
        raise UsageError(f"{text[:_MOST]!r} is in the past; give a later time")
    return moment


def moment_after(text: str, now: float) -> datetime:
    """Read a span such as `8h` or `3d`, counted from `now` (seconds since 1970 UTC). Raises `UsageError`."""
    seconds = None if text.isdecimal() else parse_duration(text)
    try:
        if seconds:
            return datetime.fromtimestamp(now + seconds, UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(
        f"{text[:_MOST]!r} is not a span of time; give a number and one of the units s m h d w, such as 8h"
    )


def zone_of(name: str | None) -> tzinfo:
    """Give the time zone with this name, or this machine's. Raises `UsageError`."""
    if name is None:
        name = os.environ.get("TZ", "").removeprefix(":")
        with contextlib.suppress(OSError, ValueError, ZoneInfoNotFoundError):
            if name:
                return ZoneInfo(name)
            with Path("/etc/localtime").open("rb") as file:
                return ZoneInfo.from_file(file)
        return UTC
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise UsageError(f"{name[:40]!r} is not a time zone of this machine; name one like Europe/Berlin") from None
