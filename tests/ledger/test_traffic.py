"""Single requests, sessions and series tell what a naive look at the same requests tells."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from ledger.books import DAY, HOUR, NOW, PRICES, entry
from tokenferry.errors import TryLater
from tokenferry.ledger import (
    Ledger,
    LedgerEntry,
    SeriesUnit,
    TrafficCursor,
    TrafficFilter,
    TrafficOrder,
    TrafficReport,
    TrafficRow,
)

START = int((NOW - 3 * DAY) * 1000)
END = int(NOW * 1000) + 1

requests = st.builds(
    lambda after, **fields: entry(0, at=NOW - 3 * DAY + after, **fields),
    st.integers(0, 3 * DAY),
    key_name=st.sampled_from(["laptop", "ci"]),
    account=st.sampled_from(["", "alice", "bob", "carol"]),
    model=st.sampled_from(["claude-opus-5", "claude-haiku-4-5"]),
    session=st.sampled_from(["", "s-1", "s-2"]),
    status=st.sampled_from([200, 429]),
    error=st.sampled_from(["", "rate_limit_error"]),
    input=st.none() | st.integers(0, 10**6),
    duration=st.integers(0, 600),
    first_byte=st.none() | st.integers(0, 60),
    is_side=st.booleans(),
).map(lambda one: one._replace(key_id=f"key_{one.key_name}", status=429 if one.error else 200))
filters = st.builds(
    TrafficFilter,
    since=st.integers(0, 3 * DAY).map(lambda after: START + after * 1000),
    until=st.just(END),
    key=st.sampled_from(["", "laptop", "key_ci", "nobody"]),
    account=st.sampled_from(["", "alice"]),
    model=st.sampled_from(["", "claude-opus-5"]),
    session=st.sampled_from(["", "s-1"]),
    status=st.sampled_from(["", "ok", "failed", "429", "slow", "nonsense"]),
)


def numbered(given: list[LedgerEntry]) -> list[LedgerEntry]:
    return [one._replace(request_id=f"tf_{number}") for number, one in enumerate(given)]


books = st.lists(requests, max_size=30).map(numbered)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traffic")


def written(path: Path, entries: list[LedgerEntry]) -> Ledger:
    ledger = Ledger(path, now=lambda: NOW)
    ledger.write(entries, PRICES)
    return ledger


def written_anew(folder: Path, entries: list[LedgerEntry]) -> Ledger:
    for path in folder.glob("ledger.db*"):
        path.unlink()
    return written(folder / "ledger.db", entries)


def is_slow(one: LedgerEntry) -> bool:
    return (one.duration if one.first_byte is None else one.first_byte) >= 10


def matching(entries: list[LedgerEntry], asked: TrafficFilter) -> list[LedgerEntry]:
    good = {"": {"", "rate_limit_error"}, "ok": {""}, "failed": {"rate_limit_error"}, "429": {"rate_limit_error"}}
    return [
        one
        for one in entries
        if asked.since <= one.at * 1000 < asked.until
        and asked.key in {"", one.key_name, one.key_id}
        and asked.account in {"", one.account}
        and asked.model in {"", one.model}
        and asked.session in {"", one.session}
        and (is_slow(one) if asked.status == "slow" else one.error in good.get(asked.status, set()))
    ]


def weight(row: TrafficRow, order: TrafficOrder) -> int:
    values = {"at": row.at_ms, "cost": row.cost, "tokens": row.tokens or 0, "ms": row.ms, "attempts": row.attempts}
    return values.get(order, -1 if row.first_ms is None else row.first_ms)


@settings(max_examples=effort(60), deadline=None)
@given(books, filters, st.tuples(st.sampled_from(get_args(TrafficOrder)), st.booleans()), st.integers(1, 7))
def test_pages_hold_each_matching_request_once_in_order(
    folder: Path, entries: list[LedgerEntry], asked: TrafficFilter, sorting: tuple[TrafficOrder, bool], count: int
) -> None:
    order, is_ascending = sorting
    with written_anew(folder, entries) as ledger:
        report = TrafficReport(ledger)
        found: list[TrafficRow] = []
        behind: TrafficCursor | None = None
        while True:
            page = report.page(asked, order=order, behind=behind, count=count, is_ascending=is_ascending)
            assert len(page.rows) <= count
            found += page.rows
            behind = page.following
            if behind is None:
                break
    is_known = [not (is_ascending and order == "first_ms" and one.first_byte is None) for one in entries]
    expected = matching([one for one, known in zip(entries, is_known, strict=True) if known], asked)
    assert sorted(one.request_id for one in found) == sorted(one.request_id for one in expected)
    weights = [(weight(row, order), row.request_id) for row in found]
    assert weights == sorted(weights, reverse=not is_ascending)


@settings(max_examples=effort(40), deadline=None)
@given(books, st.sampled_from(get_args(SeriesUnit)), st.sampled_from(["", "alice"]))
def test_a_series_adds_up_to_what_was_used_in_its_time(
    folder: Path, entries: list[LedgerEntry], unit: SeriesUnit, account: str
) -> None:
    since, until = START // (DAY * 1000) * DAY * 1000, END
    asked = TrafficFilter(since, until, account=account)
    with written_anew(folder, entries) as ledger:
        series = TrafficReport(ledger).series(asked, unit, "account", most=2)
    assert len(series.lines) <= 3
    points = [point for line in series.lines.values() for point in line]
    mine = [one for one in entries if account in {"", one.account}]
    assert sum(point.requests for point in points) == sum(not one.is_side for one in mine)
    assert sum(point.tokens for point in points) == sum(sum(one.counts) for one in mine)
    assert all(tuple(point.start for point in line) == series.starts for line in series.lines.values())


def test_a_row_tells_what_was_written_of_its_request(path: Path) -> None:
    one = entry(7, error="overloaded_error", status=529, attempts=2, agent="a-1", first_byte=0.25, duration=1.5)
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.write([one], PRICES)
        report = TrafficReport(ledger)
        row = report.request("tf_7")
        assert row == report.request("tf_7", int(NOW * 1000))
        assert report.request("tf_8") is None
    assert row is not None
    assert (row.key, row.account, row.model, row.session, row.agent) == (
        *("laptop", "alice", "claude-opus-5", "s-1", "a-1"),
    )
    assert (row.status, row.error, row.attempts, row.first_ms, row.ms) == (529, "overloaded_error", 2, 250, 1500)
    assert (row.tokens, row.is_priced, row.is_failed, row.cache_read) == (110, True, True, None)


def test_sessions_are_summed_up_with_the_latest_first(path: Path) -> None:
    entries = [
        entry(number, at=NOW - number * HOUR, session=f"s-{number % 2}", account="bob" if number else "alice")
        for number in range(5)
    ]
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.write(entries, PRICES)
        report = TrafficReport(ledger)
        first, second = report.sessions(TrafficFilter(START, END))
        assert (first.session, first.requests, first.accounts, first.tokens) == ("s-0", 3, 2, 330)
        assert report.sessions(TrafficFilter(START, END), before=first.last_ms) == [second]
        assert [row.request_id for row in report.session("s-1")] == ["tf_3", "tf_1"]
        assert report.session("nobody") == []


def test_durations_are_those_of_messages_that_went_well(path: Path) -> None:
    entries = [entry(1, duration=2, first_byte=1), entry(2, duration=9, error="x"), entry(3, duration=1, is_side=True)]
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.write(entries, PRICES)
        assert TrafficReport(ledger).durations(TrafficFilter(START, END)) == ([1000], [2000])


def test_a_rare_name_is_found_without_a_look_at_other_hours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenferry.ledger._traffic._MOST_HOURS", 2)
    entries = [entry(number, at=NOW - number * HOUR, account="rare" if number % 2 else "often") for number in range(9)]
    asked = TrafficFilter(START, END, account="rare")
    with Ledger(path, now=lambda: NOW) as ledger:
        ledger.write(entries, PRICES)
        report = TrafficReport(ledger)
        page = report.page(asked)
        assert [row.request_id for row in page.rows] == ["tf_1", "tf_3"]
        assert page.looked_to is not None
        assert page.following is not None
        assert [row.request_id for row in report.page(asked, behind=page.following).rows] == ["tf_5", "tf_7"]
        page = report.page(asked, is_ascending=True)
        assert [row.request_id for row in page.rows] == ["tf_7", "tf_5"]
        rest = report.page(asked, behind=page.following, is_ascending=True)
        assert [row.request_id for row in rest.rows] == ["tf_3", "tf_1"]


def test_a_query_that_takes_too_long_is_ended(path: Path) -> None:
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with Ledger(path) as ledger:
        with pytest.raises(TryLater, match="ask for a shorter time"):
            ledger.rows(endless, seconds=0.01)
        assert ledger.rows("SELECT 1", seconds=5)[0][0] == 1


@pytest.fixture(scope="module", autouse=True)
def _clean(folder: Path) -> Iterator[None]:
    yield
    for path in folder.glob("ledger.db*"):
        path.unlink()
