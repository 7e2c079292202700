"""The ledger keeps what was used once, whatever happens to it, and its sums are those of its rows."""

import contextlib
import logging
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from effort import effort
from ledger.books import DAY, HOUR, NOW, PRICES, entries, entry, sums_of
from tokenferry.errors import CorruptFile, StorageFailed, UsageError
from tokenferry.ledger import Ledger, LedgerEntry, OtherModel, WindowPoint
from tokenferry.ledger._schema import SUMS
from tokenferry.prices import PriceTable, TokenCounts
from tokenferry.settings import LedgerSettings, PriceSettings
from tokenferry.state import BulkInsert, _sqlite


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, now=lambda: NOW) as ledger:
        yield ledger


def sums(ledger: Ledger, table: str, span: int) -> Counter[tuple[object, ...]]:
    """The same as `sums_of`, from a table."""
    found: Counter[tuple[object, ...]] = Counter()
    names = {row["id"]: row["value"] for row in ledger.rows("SELECT id, value FROM names")}
    for row in ledger.rows(f"SELECT * FROM {table}"):
        group = (row["period"], *(names.get(row[name], "") for name in ("key", "account", "provider")), row["billing"])
        for name in SUMS:
            if name not in ("side_requests", "uncounted", "unpriced", "thinking", "ms", "bytes_in", "bytes_out"):
                found[(*group, name)] += row[name]
    assert all(value >= 0 for value in found.values())
    return +found


def assert_consistent(ledger: Ledger, written: list[LedgerEntry]) -> None:
    for table, span in (("hours", HOUR), ("days", DAY)):
        assert sums(ledger, table, span) == sums_of(written, span)
    rows = ledger.rows("SELECT count(*) AS n, coalesce(sum(cost_micros), 0) AS cost FROM requests")[0]
    days = ledger.rows("SELECT sum(requests + side_requests) AS n, sum(cost_micros) AS cost FROM days")[0]
    assert (rows["n"], rows["cost"]) == (days["n"] or 0, days["cost"] or 0)
    assert rows["n"] == len(written)


@hypothesis_settings(max_examples=effort(60))
@given(st.lists(st.lists(entries, max_size=8), max_size=6), st.data())
def test_rows_and_sums_and_a_replay_tell_the_same(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[LedgerEntry]], data: st.DataObject
) -> None:
    """Through any batches, repeated requests, two writers, new prices, and the erasure of a key or session."""
    path = tmp_path_factory.mktemp("ledger") / "home" / "ledger.db"
    written: dict[tuple[int, str], LedgerEntry] = {}
    with Ledger(path, now=lambda: NOW) as first, Ledger(path, now=lambda: NOW) as second:
        for batch in batches:
            data.draw(st.sampled_from([first, second])).write(batch, PRICES)
            for one in batch:
                written.setdefault((int(one.at * 1000), one.request_id), one)
        assert_consistent(first, [*written.values()])
        first.reprice(PriceTable({"anthropic": "https://api.anthropic.com"}, [PriceSettings("*", percent=50)]), since=0)
        second.reprice(PRICES, since=0)
        assert_consistent(second, [*written.values()])
        session = data.draw(st.booleans())
        erased = second.erase(session="s-1") if session else second.erase(key="key_1")
        left = [one for one in written.values() if (one.session != "s-1" if session else one.key_id != "key_1")]
        assert erased == len(written) - len(left)
        assert_consistent(first, left)
        first.write([entry(99)], PRICES)
        assert_consistent(second, [*left, entry(99)])


def test_the_file_is_private_and_made_to_shrink(file: Path, ledger: Ledger) -> None:
    ledger.write([entry(1)], PRICES)
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.parent.glob("ledger.db*")} == {0o600}
    pragmas = [ledger.rows(f"PRAGMA {name}")[0][0] for name in ("auto_vacuum", "journal_mode", "synchronous")]
    assert pragmas == [2, "wal", 1]


def test_zero_and_unknown_are_kept_apart(ledger: Ledger) -> None:
    ledger.write([entry(1, input=0, output=0), entry(2, input=None, output=None)], PRICES)
    rows = [tuple(row) for row in ledger.rows("SELECT input, output, cost_micros FROM requests ORDER BY id")]
    assert rows == [(0, 0, 0), (None, None, 0)]
    assert ledger.rows("SELECT uncounted FROM days")[0][0] == 1


def test_a_model_without_a_price_is_not_free_and_says_so(ledger: Ledger) -> None:
    ledger.write([entry(1, model="odd", asked="odder", input=10**6, output=0), entry(2)], PRICES)
    row = ledger.rows(
        "SELECT sum(unpriced) AS n, sum(unpriced_micros) AS unpriced, sum(cost_micros) AS cost FROM days"
    )[0]
    assert (row["n"], row["unpriced"], row["cost"]) == (1, 5_000_000, 5_000_750)


def test_an_unknown_price_is_said_once(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenferry")
    ledger.write([entry(number, model="odd", asked="") for number in range(3)], PRICES)
    ledger.write([entry(5, model="odd", asked=""), entry(6), entry(7, model="none", input=0, output=0)], PRICES)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("the price of model odd of provider anthropic is unknown; $5 and $25")


def test_what_another_model_served_costs_what_that_one_costs(ledger: Ledger) -> None:
    advisor = OtherModel("claude-opus-5", TokenCounts(1000, 100))
    ledger.write([entry(1, model="claude-haiku-4-5", input=3000, output=300, others=(advisor,))], PRICES)
    expected = (2000 * 1 + 200 * 5) + (1000 * 5 + 100 * 25)
    assert ledger.rows("SELECT cost_micros FROM requests")[0][0] == expected
    assert ledger.reprice(PRICES, since=0) == (0, expected, expected)


def test_a_renamed_key_keeps_its_rows_and_has_its_last_name(ledger: Ledger) -> None:
    ledger.write([entry(1)], PRICES)
    ledger.write([entry(2, key_name="desk")], PRICES)
    assert [row["label"] for row in ledger.rows("SELECT label FROM names WHERE kind = 'key'")] == ["desk"]
    assert ledger.erase(key="desk") == 2


def test_model_names_of_clients_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenferry.ledger._ledger._MOST_MODELS", 5)
    for start in range(0, 40, 10):
        ledger.write([entry(number, model=f"m{number}", asked="") for number in range(start, start + 10)], PRICES)
    assert ledger.rows("SELECT count(*) FROM names WHERE kind = 'model'")[0][0] == 6
    assert ledger.rows("SELECT sum(requests) FROM days")[0][0] == 40


@pytest.mark.parametrize("at", [-1e9, 0.0, 1e15])
def test_a_time_that_cannot_be_is_written_all_the_same(ledger: Ledger, at: float) -> None:
    ledger.write([entry(1, at=at)], PRICES)
    assert 0 <= ledger.rows("SELECT at_ms FROM requests")[0][0] <= 4_102_444_800_000


def test_new_prices_change_rows_and_sums_from_their_day_on(ledger: Ledger) -> None:
    ledger.write([entry(1, at=NOW - 10 * DAY), entry(2, at=NOW)], PRICES)
    half = PriceTable({"anthropic": "https://api.anthropic.com"}, [PriceSettings("claude-*", percent=50)])
    assert ledger.reprice(half, since=NOW - DAY) == (1, 750, 375)
    assert [row[0] for row in ledger.rows("SELECT cost_micros FROM requests ORDER BY id")] == [750, 375]
    assert ledger.rows("SELECT sum(cost_micros) FROM days")[0][0] == 1125


def test_old_rows_go_and_sums_stay_as_long_as_is_said(path: Path) -> None:
    now = NOW
    with Ledger(path, now=lambda: now) as ledger:
        ages = (0, 80, 100, 399, 500)
        ledger.write([entry(age, at=NOW - age * DAY, session=f"s-{age}") for age in ages], PRICES)
        ledger.write([], PRICES, [WindowPoint("alice", "5h", NOW - 100 * DAY, 0.5, NOW)])
        assert ledger.retain(LedgerSettings()) == 0
        kept = {
            name: ledger.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("requests", "hours", "days", "windows")
        }
        assert kept == {"requests": 2, "hours": 4, "days": 5, "windows": 0}
        assert {row[0] for row in ledger.rows("SELECT value FROM names WHERE kind = 'session'")} == {"s-0", "s-80"}
        assert ledger.retain(LedgerSettings(1, 1)) == 0
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 2, "it is done once an hour"
        now += HOUR
        ledger.retain(LedgerSettings(1, 1))
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 0


def test_what_is_deleted_makes_the_file_smaller(file: Path, ledger: Ledger) -> None:
    for start in range(0, 12_000, 2000):
        ledger.write([entry(number, at=NOW - 100 * DAY) for number in range(start, start + 2000)], PRICES)
    before = file.stat().st_size + file.with_name("ledger.db-wal").stat().st_size
    assert ledger.retain(LedgerSettings(), seconds=60) == 0
    assert file.stat().st_size + file.with_name("ledger.db-wal").stat().st_size < before / 5


def test_a_run_that_has_no_time_left_says_what_is_left(ledger: Ledger) -> None:
    ledger.write([entry(number, at=NOW - 100 * DAY) for number in range(3)], PRICES)
    assert ledger.retain(LedgerSettings(), seconds=0) == 3
    assert ledger.retain(LedgerSettings()) == 0, "another process has done it this hour"
    assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 3
    assert ledger.retain(LedgerSettings(), go_on=True) == 0
    assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 0


def test_what_is_erased_is_in_no_byte_of_the_files(file: Path, ledger: Ledger) -> None:
    secret = "f3c1-very-own-session"
    ledger.write([entry(1, session=secret), entry(2)], PRICES)
    assert ledger.erase(session=secret) == 1
    assert ledger.erase(session=secret) == 0
    content = b"".join(each.read_bytes() for each in file.parent.glob("ledger.db*"))
    assert secret.encode() not in content
    with pytest.raises(UsageError, match="key or a session"):
        ledger.erase()


def test_a_copy_is_whole_and_can_be_taken_back(file: Path, ledger: Ledger, tmp_path: Path) -> None:
    ledger.write([entry(1), entry(2, session="s-2")], PRICES)
    copy = tmp_path / "copy.db"
    ledger.backup(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(StorageFailed, match="name a file that does not exist"):
        ledger.backup(copy)
    with Ledger(file, now=lambda: NOW) as elsewhere:
        elsewhere.erase(session="s-2")
        elsewhere.write([entry(3, session="s-3")], PRICES)
        ledger.restore(copy)
        assert_consistent(elsewhere, [entry(1), entry(2, session="s-2")])
        elsewhere.write([entry(4, session="s-3")], PRICES)
        assert elsewhere.rows("SELECT count(*) FROM names WHERE value = 's-3'")[0][0] == 1
    assert ledger.rows("PRAGMA auto_vacuum")[0][0] == 2


def test_another_programs_database_is_no_copy(ledger: Ledger, tmp_path: Path, file: Path) -> None:
    ledger.write([entry(1)], PRICES)
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.executescript("CREATE TABLE theirs (a); PRAGMA user_version = 1")
    with pytest.raises(CorruptFile, match=r"other\.db is not a whole copy"):
        ledger.restore(other)
    assert_consistent(ledger, [entry(1)])


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_what_is_no_copy_is_refused_and_changes_nothing(
    ledger: Ledger, tmp_path: Path, content: bytes, file: Path
) -> None:
    ledger.write([entry(1)], PRICES)
    other = tmp_path / "other.db"
    other.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"other\.db is not a whole copy"):
        ledger.restore(other)
    assert_consistent(ledger, [entry(1)])


def test_a_batch_that_fails_leaves_nothing_and_can_be_written_again(file: Path, ledger: Ledger) -> None:
    (pages,) = ledger._file()._writer.execute("PRAGMA page_count").fetchone()
    ledger._file()._writer.execute(f"PRAGMA max_page_count = {pages}")
    many = [entry(number, session=f"s-{number}" * 20) for number in range(300)]
    with pytest.raises(StorageFailed, match="its disk is full; make room there"):
        ledger.write(many, PRICES)
    assert_consistent(ledger, [])
    ledger._file()._writer.execute("PRAGMA max_page_count = 100000")
    ledger.write(many, PRICES)
    assert_consistent(ledger, many)


def test_a_connection_of_an_other_program_sees_all(file: Path, ledger: Ledger) -> None:
    ledger.write([entry(1)], PRICES)
    other = sqlite3.connect(file)
    assert other.execute("SELECT sum(requests) FROM days").fetchone() == (1,)
    other.close()


def test_requests_of_one_conversation_cost_what_holds_at_their_time_and_by_their_tables(ledger: Ledger) -> None:
    midnight = NOW // DAY * DAY
    asked = [
        LedgerEntry(
            "k", "k", "a", "deepseek", session="s", request_id=str(number), at=midnight + minutes * 60
        )._replace(model="deepseek-flash", input=1_000_000)
        for number, minutes in enumerate((59, 60, 239, 240, 59))
    ]
    prices = PriceTable({"deepseek": "https://api.deepseek.com/anthropic"})
    dearer = PriceTable({}, [PriceSettings("deepseek-flash", input=7, output=7)])
    spent = ledger.write(asked, prices)
    again = ledger.write([one._replace(request_id=f"again-{one.request_id}") for one in asked[:1]], dearer)
    costs = [row["cost_micros"] for row in ledger.rows("SELECT cost_micros FROM requests ORDER BY id")]
    assert costs == [150_000, 300_000, 300_000, 150_000, 150_000, 7_000_000]
    assert (sum(spent.values()), sum(again.values())) == (sum(costs[:5]), 7_000_000)


@pytest.mark.parametrize(("count", "statements"), [(277, [128, 128, 16, 1, 1, 1, 1, 1]), (16, [16]), (3, [1, 1, 1])])
def test_rows_are_written_in_statements_of_three_sizes(
    file: Path, monkeypatch: pytest.MonkeyPatch, count: int, statements: list[int]
) -> None:
    """SQLite keeps each statement: few sizes, so that few are kept, and large ones, so that few are run."""
    sizes: list[int] = []
    statement = _sqlite._statement

    def counting(into: BulkInsert, rows: int) -> str:
        sizes.append(rows)
        return statement(into, rows)

    monkeypatch.setattr(_sqlite, "_statement", counting)
    with Ledger(file) as ledger:
        ledger.write([entry(number) for number in range(count)], PRICES)
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == count
    assert sizes == statements


def test_a_use_beyond_any_number_costs_no_other_record(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.write([], PRICES, [WindowPoint("alice", "5h", NOW, used, NOW) for used in (9.9e15, 1e115, 1e308)])
