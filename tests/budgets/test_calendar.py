from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.budgets import Span, span_of

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "America/Sao_Paulo", "Asia/Beirut")


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def hours(span: Span) -> float:
    return (span.end - span.start) / 3_600_000


@pytest.mark.parametrize(
    ("moment", "length"),
    [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25), ("2026-06-01T00:00", 24)],
)
def test_a_day_on_which_the_clock_is_set_is_as_long_as_it_is(moment: str, length: int) -> None:
    assert hours(span_of("day", at(moment, "Europe/Berlin"), ZoneInfo("Europe/Berlin"))) == length


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        ("2028-02-29T23:59:59", "2028-02-01", "2028-03-01"),
        ("2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("2026-01-31T00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_a_month_ends_where_the_next_one_begins(moment: str, start: str, end: str) -> None:
    assert span_of("month", at(moment)) == Span(int(at(start) * 1000), int(at(end) * 1000))


def test_a_week_begins_on_the_day_that_is_asked_for() -> None:
    thursday = at("2026-11-26T10:00")
    assert span_of("week", thursday).start == at("2026-11-23") * 1000
    assert span_of("week", thursday, first_weekday=6).start == at("2026-11-22") * 1000
    assert span_of("week", thursday, first_weekday=3).start == at("2026-11-26") * 1000


def test_total_has_no_end() -> None:
    assert span_of("total", at("2026-11-26")).start == 0
    assert span_of("total", 0) == span_of("total", at("2099-01-01"))


@settings(max_examples=effort(300))
@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001  # of UTC, below
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(["day", "week", "month"]),
    weekday=st.integers(0, 6),
)
def test_periods_hold_their_moments_and_follow_one_another(
    moment: datetime, zone: str, period: str, weekday: int
) -> None:
    """Whatever the clocks do there: every moment is in one period, and each begins where the one before ends."""
    seconds = moment.replace(tzinfo=UTC).timestamp()

    def span(of: float) -> Span:
        return span_of(period, of, ZoneInfo(zone), weekday)  # type: ignore[arg-type]  # it is drawn from its values

    found = span(seconds)
    assert found.start <= int(seconds * 1000) < found.end
    assert span(found.start / 1000) == found
    assert span((found.end - 1) / 1000) == found
    assert span(found.end / 1000).start == found.end
    assert timedelta(milliseconds=found.end - found.start) <= timedelta(days=32)
