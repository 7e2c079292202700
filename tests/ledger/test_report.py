"""A report tells what a naive count of the same requests tells, whichever table it reads."""

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from ledger.books import DAY, HOUR, NOW, PRICES, entry
from tokenferry.budgets import midnight
from tokenferry.ledger import (
    Dimension,
    Grain,
    Ledger,
    LedgerEntry,
    Period,
    UsageReport,
    WindowPoint,
    periods,
    total,
)
from tokenferry.settings import LedgerSettings

ZONES = (
    *("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe"),
    *("Pacific/Apia", "America/Havana"),
)
SPRING = datetime(2026, 3, 27, tzinfo=UTC).timestamp()
AUTUMN = datetime(2026, 10, 23, tzinfo=UTC).timestamp()
GRAINS: tuple[Grain, ...] = ("daily", "weekly", "monthly")


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, now=lambda: NOW) as ledger:
        yield ledger


def label_of(moment: datetime, grain: Grain) -> str:
    day = moment.date()
    if grain == "weekly":
        day -= timedelta(days=day.weekday())
    return f"{day:%Y-%m}" if grain == "monthly" else str(day)


requests = st.builds(
    lambda start, after, account, session, tokens, plan: entry(
        0,
        at=start + after,
        account=account,
        session=session,
        input=tokens,
        billing="plan" if plan else "metered",
        error="" if tokens % 3 else "overloaded_error",
    ),
    st.sampled_from([SPRING, AUTUMN]),
    st.integers(0, 5 * DAY),
    st.sampled_from(["alice", "bob"]),
    st.sampled_from(["s-1", "s-2"]),
    st.integers(0, 10**6),
    st.booleans(),
)


def numbered(given: list[LedgerEntry]) -> list[LedgerEntry]:
    return [one._replace(request_id=f"tf_{number}") for number, one in enumerate(given)]


@settings(max_examples=effort(60))
@given(
    st.lists(requests, max_size=25).map(numbered),
    st.sampled_from(ZONES).map(ZoneInfo),
    st.sampled_from(GRAINS),
    st.sampled_from([(), ("account",), ("session",), ("account", "model")]),
)
def test_periods_of_any_zone_hold_what_happened_in_them(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[LedgerEntry],
    zone: ZoneInfo,
    grain: Grain,
    by: tuple[Dimension, ...],
) -> None:
    expected: Counter[tuple[str, tuple[str, ...], str]] = Counter()
    for one in written:
        names = {"account": one.account, "session": one.session, "model": "claude-opus-5"}
        group = (label_of(datetime.fromtimestamp(one.at, zone), grain), tuple(names[name] for name in by))
        expected[(*group, "requests")] += 1
        expected[(*group, "errors")] += bool(one.error)
        expected[(*group, "input")] += one.input or 0
    with Ledger(tmp_path_factory.mktemp("report") / "home" / "ledger.db") as ledger:
        ledger.write(written, PRICES)
        rows = UsageReport(ledger).rows(periods(grain, date(2026, 3, 20), date(2026, 11, 5), zone), by)
    found: Counter[tuple[str, tuple[str, ...], str]] = Counter()
    for row in rows:
        for name in ("requests", "errors", "input"):
            found[row.period.label, row.group, name] += getattr(row.usage, name)
        assert row.usage.input == sum(usage.input for usage in row.usage.models.values())
    assert +found == +expected


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_nothing_is_lost_or_counted_twice_where_old_rows_and_hours_are_gone(ledger: Ledger, zone: str) -> None:
    written = [entry(number, at=NOW - number * HOUR * 7) for number in range(1500)]
    ledger.write(written, PRICES)
    days = periods("daily", date(2025, 1, 1), date(2026, 12, 31), ZoneInfo(zone))
    before = UsageReport(ledger).rows(days)
    ledger.retain(LedgerSettings(30 * DAY, 100 * DAY))
    after = UsageReport(ledger).rows(days)
    assert total(after) == total(before)
    assert total(after).requests == len(written)
    recent = [row for row in after if row.period.start >= (NOW - 29 * DAY) * 1000]
    assert recent == before[-len(recent) :]


def test_what_a_subscription_covers_is_not_added_to_what_is_paid(ledger: Ledger) -> None:
    ledger.write([entry(1), entry(2, billing="plan"), entry(3, billing="overage", model="odd", asked="")], PRICES)
    usage = total(UsageReport(ledger).rows(periods("daily", date(2026, 1, 1), date(2026, 12, 31), UTC)))
    assert (usage.cost, usage.plan, usage.unpriced, usage.unpriced_cost) == (1500, 750, 1, 750)


@pytest.mark.parametrize(
    ("grain", "since", "until", "labels"),
    [
        ("daily", date(2026, 2, 27), date(2026, 3, 1), ["2026-02-27", "2026-02-28", "2026-03-01"]),
        ("weekly", date(2026, 11, 4), date(2026, 11, 9), ["2026-11-02", "2026-11-09"]),
        ("monthly", date(2025, 12, 31), date(2026, 2, 1), ["2025-12", "2026-01", "2026-02"]),
    ],
)
def test_periods_join_without_a_gap_and_keep_to_the_days_asked_for(
    grain: Grain, since: date, until: date, labels: list[str]
) -> None:
    for zone in map(ZoneInfo, ZONES):
        found = periods(grain, since, until, zone)
        assert [one.label for one in found] == labels
        assert found[0].start == midnight(since, zone)
        assert found[-1].end == midnight(until + timedelta(days=1), zone)
        assert all(one.end == other.start for one, other in itertools.pairwise(found))


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)])
def test_a_day_on_which_clocks_are_set_has_its_own_length(day: date, hours: int) -> None:
    (found,) = periods("daily", day, day, ZoneInfo("Europe/Berlin"))
    assert found.end - found.start == hours * HOUR * 1000


def test_blocks_are_the_vendor_s_windows_else_five_hours_from_the_first_request_on(ledger: Ledger) -> None:
    start = NOW - NOW % HOUR - 12 * HOUR
    points = [
        WindowPoint("alice", "5h", start + 60, 0.1, start + 3 * HOUR),
        WindowPoint("alice", "5h", start + 120, 0.2, start + 3 * HOUR + 30),
        WindowPoint("alice", "7d", start + 120, 0.2, start + 90 * HOUR),
        WindowPoint("alice", "5h", start + 4 * HOUR, 0.0, start + 9 * HOUR),
    ]
    ledger.write(
        [entry(1, at=start), entry(2, account="bob", at=start + 1800), entry(3, account="bob", at=start + 6 * HOUR)],
        PRICES,
        points,
    )
    report = UsageReport(ledger)
    blocks = report.blocks(int(start * 1000), int(NOW * 1000))
    spans = [(one.account, one.start / 1000 - start, one.end / 1000 - start) for one in blocks]
    assert spans == [
        ("alice", -2 * HOUR + 30, 3 * HOUR + 30),
        ("bob", 0, 5 * HOUR),
        ("alice", 4 * HOUR, 9 * HOUR),
        ("bob", 6 * HOUR, 11 * HOUR),
    ]
    assert report.windows(0, int(NOW * 1000))["alice", "5h"] == (0.0, (start + 9 * HOUR) * 1000)


def test_a_block_holds_its_own_account_s_requests(ledger: Ledger) -> None:
    ledger.write([entry(1), entry(2, account="bob", input=5)], PRICES)
    block = Period("", int(NOW * 1000), int(NOW * 1000) + 1000, "bob")
    rows = [row for row in UsageReport(ledger).rows([block], ("account",)) if row.group == ("bob",)]
    assert [row.usage.input for row in rows] == [5]


def test_parts_of_the_tables_make_up_each_period(ledger: Ledger) -> None:
    """Hours and rows fill what the nearest days lack, and take out what those have too much: half a day at most."""
    units = {"days": DAY * 1000, "hours": HOUR * 1000, "requests": 1}

    @settings(max_examples=effort(500))
    @given(st.integers(0, 21_000), st.integers(1, 100_000), st.sampled_from([1, 1000, 1_800_000, 3_600_000]))
    def holds(start: int, length: int, step: int) -> None:
        period = Period("", start * step, (start + length) * step)
        changes: Counter[int] = Counter({period.start: -1, period.end: 1})
        for table, parts in UsageReport(ledger)._parts([period], is_by_rows=False).items():
            for _, first, last, sign in parts:
                assert first < last
                assert table == "days" or (last - first) * units[table] <= max(DAY * 500, period.end - period.start)
                changes[first * units[table]] += sign
                changes[last * units[table]] -= sign
        assert not any(changes.values())

    holds()


def test_what_a_whole_day_had_and_its_zone_does_not_is_no_group(ledger: Ledger) -> None:
    """The account that was used in the hour that is taken out again is not there with zeros."""
    midnight_utc = 20_000 * DAY
    ledger.write([entry(1, at=midnight_utc + 60), entry(2, at=midnight_utc + 23.5 * HOUR, account="bob")], PRICES)
    day = Period("", (midnight_utc - HOUR) * 1000, (midnight_utc + 23 * HOUR) * 1000)
    (row,) = UsageReport(ledger).rows([day], ("account",))
    assert (row.group, row.usage.requests, list(row.usage.models)) == (("alice",), 1, ["claude-opus-5"])
    ledger.write([entry(3, at=midnight_utc + 23.5 * HOUR, model="odd", asked="odd")], PRICES)
    (row,) = UsageReport(ledger).rows([day], ("account",))
    assert list(row.usage.models) == ["claude-opus-5"]
