"""Moments as people write them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tokenferry.errors import UsageError
from tokenferry.moments import later_moment, moment_after, zone_of

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 28, 18, 0, tzinfo=BERLIN).timestamp()
"""The evening before clocks are put forward."""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("18:30", "2026-03-28T18:30:00+01:00"),
        ("18:00", "2026-03-29T18:00:00+02:00"),
        ("7:05", "2026-03-29T07:05:00+02:00"),
        ("tomorrow", "2026-03-29T08:00:00+02:00"),
        ("tomorrow 23:59", "2026-03-29T23:59:00+02:00"),
        ("2026-04-01", "2026-04-01T00:00:00+02:00"),
        ("2026-04-01 08:00", "2026-04-01T08:00:00+02:00"),
        ("2026-04-01T08:00", "2026-04-01T08:00:00+02:00"),
        ("2026-04-01T08:00:00Z", "2026-04-01T08:00:00+00:00"),
    ],
)
def test_a_moment_lies_ahead_and_is_of_the_zone(text: str, found: str) -> None:
    assert later_moment(text, NOW, BERLIN).isoformat() == found


@pytest.mark.parametrize(
    "text",
    ["", "soon", "24:00", "8", "tomorrow 8", "tomorrow8:00", "2026-03-28T17:59", "1e9", "\u0661\u0668:\u0663\u0660"],
)
def test_what_is_no_moment_ahead_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        later_moment(text, NOW, BERLIN)


def test_a_span_needs_a_unit_and_leads_ahead() -> None:
    assert moment_after("8h", 0) == datetime(1970, 1, 1, 8, tzinfo=UTC)
    for text in ("8", "0h", "", "-1h", "1e9w", "99999999999d"):
        with pytest.raises(UsageError):
            moment_after(text, 0)


def test_a_time_zone_is_known_by_name_or_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zone_of("Europe/Berlin") == BERLIN
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert zone_of(None) == BERLIN
    with pytest.raises(UsageError):
        zone_of("../../etc/passwd")
