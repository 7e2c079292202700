"""`tokenferry usage` says what the ledger holds, in words that people and ccusage's readers know."""

import csv
import io
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.harness import Outcome
from ledger.books import PRICES, entry
from tokenferry.cli._usage import bar
from tokenferry.ledger import Ledger, WindowPoint
from tokenferry.settings import Home

Inside = Callable[..., Outcome]
TODAY = datetime.now(UTC).date()
NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 0, 30, tzinfo=UTC).timestamp()
DAY = 86_400


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def used(home: Home) -> Home:
    with Ledger(home.ledger) as ledger:
        ledger.write(
            [
                entry(1, at=NOON - DAY, input=1000, output=100, cache_write_1h=2000, cache_read=50_000),
                entry(
                    2, at=NOON, account="bob", key_id="key_2", key_name="ci", model="claude-haiku-4-5", session="s-2"
                ),
                entry(3, at=NOON, model="odd", asked="", input=10**6, output=0, is_estimated=True),
                entry(4, at=NOON, account="max", billing="plan", session="", input=None, output=None),
                entry(5, at=NOON, account="max", billing="plan", session="", input=10**6, output=0),
            ],
            PRICES,
        )
    return home


def test_days_are_lines_with_a_total(used: Home, inside: Inside) -> None:
    outcome = inside("usage", "daily")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines == [
        ["DATE", "INPUT", "OUTPUT", "CACHE", "NEW", "CACHE", "READ", "COST", "PLAN"],
        [str(TODAY.fromordinal(TODAY.toordinal() - 1)), "1.0k", "100", "2.0k", "50.0k", "$0.05", "$0.00"],
        [str(TODAY), "2.0M", "10", "0", "0", "$5.00", "$5.00"],
        ["total", "2.0M", "110", "2.0k", "50.0k", "$5.05", "$5.00"],
    ]
    assert "1 request to models of unknown price, counted at $5 and $25 a million tokens ($5.00 in all)" in outcome.err
    assert "1 request cut off" in outcome.err
    assert "1 request without token counts" in outcome.err


def test_json_has_ccusage_s_names_and_its_sums_agree(used: Home, inside: Inside) -> None:
    document = inside("usage", "daily", "--json").json
    days, totals = document["daily"], document["totals"]
    assert [day["date"] for day in days] == [str(TODAY.fromordinal(TODAY.toordinal() - 1)), str(TODAY)]
    for name, value in totals.items():
        assert sum(day[name] for day in days) == pytest.approx(value)
        assert sum(model[name] for day in days for model in day["modelBreakdowns"]) == pytest.approx(value)
    assert (totals["inputTokens"], totals["cacheCreationTokens"], totals["cacheReadTokens"]) == (
        2_001_100,
        2000,
        50_000,
    )
    assert totals["totalTokens"] == 2_001_100 + 110 + 2000 + 50_000
    assert totals["totalCost"] == pytest.approx(0.0525 + 0.00015 + 5.0)
    assert (totals["planCost"], totals["unpricedRequests"], totals["requests"]) == (5.0, 1, 5)
    assert days[1]["modelsUsed"] == ["claude-haiku-4-5", "claude-opus-5", "odd"]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("account", ["alice", "bob", "max"]),
        ("key", ["ci", "laptop"]),
        ("model", ["claude-haiku-4-5", "claude-opus-5", "odd"]),
        ("provider", ["anthropic"]),
        ("session", ["", "s-1", "s-2"]),
    ],
)
def test_usage_is_grouped_by_what_is_asked_for(used: Home, inside: Inside, by: str, names: list[str]) -> None:
    found = inside("usage", "monthly", "--by", by, "--json").json["monthly"]
    assert sorted({one[by] for one in found}) == names
    assert sum(one["requests"] for one in found) == 5


def test_two_groups_and_each_model_in_a_line(used: Home, inside: Inside) -> None:
    lines = inside("usage", "weekly", "--by", "account,key", "--breakdown").out.splitlines()
    assert any(line.split()[:3] == ["claude-haiku-4-5", "100", "10"] for line in lines)
    assert lines[0].split()[:3] == ["WEEK", "ACCOUNT", "KEY"]


def test_sessions_come_with_the_time_that_they_were_last_used(used: Home, inside: Inside) -> None:
    found = inside("usage", "session", "--json").json["sessions"]
    assert [(one["sessionId"], one["requests"]) for one in found] == [("s-1", 2), ("s-2", 1)]
    assert found[0]["lastActivity"].startswith(str(TODAY))
    assert "s-1" in inside("usage", "session").out


def test_csv_has_a_header_and_no_formula(used: Home, inside: Inside) -> None:
    with Ledger(used.ledger) as ledger:
        ledger.write([entry(9, at=NOON, key_id="key_9", key_name="=cmd()")], PRICES)
    rows = [*csv.DictReader(io.StringIO(inside("usage", "daily", "--by", "key", "--csv").out))]
    assert {row["key"] for row in rows} == {"laptop", "ci", "'=cmd()"}
    assert sum(int(row["inputTokens"]) for row in rows) == 2_001_200
    models = [*csv.DictReader(io.StringIO(inside("usage", "daily", "--csv", "--breakdown").out))]
    assert {row["modelName"] for row in models} == {"claude-opus-5", "claude-haiku-4-5", "odd"}


def test_blocks_show_the_window_and_when_it_ends(home: Home, inside: Inside) -> None:
    now = time.time()
    with Ledger(home.ledger) as ledger:
        points = [WindowPoint("max", "5h", now - 60, 0.45, now + 2 * 3600, "allowed")]
        requests = [entry(1, at=now - 3600, account="max", billing="plan"), entry(2, at=now - 100, account="bob")]
        ledger.write(requests, PRICES, points)
    outcome = inside("usage", "blocks")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["START", "ACCOUNT", "TOKENS", "COST", "PLAN", "USED"]
    assert any("max" in line and "45%" in line for line in lines)
    assert "max: this block ends in 120 min" in outcome.err or "max: this block ends in 2 h" in outcome.err
    found = {one["account"]: one for one in inside("usage", "blocks", "--json").json["blocks"]}
    assert found["max"]["isActive"]
    assert found["max"]["used"] == 0.45
    assert found["max"]["projection"]["remainingMinutes"] in (119, 120)
    assert found["bob"]["entries"] == 1


def test_days_are_those_of_the_zone_that_is_asked_for(used: Home, inside: Inside) -> None:
    found = inside("usage", "daily", "--timezone", "America/New_York", "--json").json["daily"]
    assert [one["date"] for one in found] == [str(TODAY.fromordinal(TODAY.toordinal() - back)) for back in (2, 1)]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--since", "yesterday"], "is not a day"),
        (["--since", "0001-01-01"], "is not a day from 1970 to 2099"),
        (["--until", "9999-12-31"], "is not a day from 1970 to 2099"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "swap them"),
        (["--timezone", "Mars/Olympus"], "is not a time zone"),
        (["--timezone", "../../etc/passwd"], "is not a time zone"),
        (["--by", "moon"], "give one of account, key, model, provider, session"),
    ],
)
def test_what_cannot_be_shown_is_said(used: Home, inside: Inside, arguments: list[str], fault: str) -> None:
    outcome = inside("usage", "daily", *arguments)
    assert outcome.code == 2
    assert fault in outcome.err


def test_without_a_ledger_it_says_so_and_makes_none(home: Home, inside: Inside) -> None:
    outcome = inside("usage", "daily", "--json")
    assert (outcome.code, outcome.json["daily"]) == (0, [])
    assert "no usage is recorded yet" in outcome.err
    assert inside("usage", "blocks").code == 0
    assert inside("usage", "reprice", "--since", "7d").code == 2
    assert not home.ledger.exists()


def test_prices_of_the_configuration_count_after_a_reprice_alone(used: Home, inside: Inside) -> None:
    used.config.write_text('[[prices]]\nmodel = "odd"\ninput = 1\noutput = 1\n')
    used.config.chmod(0o600)
    assert inside("usage", "daily", "--json").json["totals"]["unpricedRequests"] == 1
    outcome = inside("usage", "reprice", "--since", "7d")
    assert "cost $6.05, $10.05 before" in outcome.out
    totals = inside("usage", "daily", "--json").json["totals"]
    assert (totals["unpricedRequests"], totals["totalCost"]) == (0, pytest.approx(1.05265))
    assert '"action": "usage.reprice"' in used.audit.read_text()


def test_a_key_is_erased_and_a_copy_brings_it_back(used: Home, inside: Inside, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert inside("usage", "backup", str(copy)).code == 0
    assert "erased 4 requests" in inside("usage", "erase", "--key", "laptop").out
    assert inside("usage", "daily", "--json").json["totals"]["requests"] == 1
    assert inside("usage", "restore", str(copy)).code == 0
    assert inside("usage", "daily", "--json").json["totals"]["requests"] == 5
    assert inside("usage", "erase").code == 2
    assert inside("usage", "restore", str(tmp_path / "none.db")).code == 2


def test_lines_fit_a_terminal_of_80_columns(used: Home, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = inside("usage", "daily", "--by", "account").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("█" in line for line in lines)


def test_a_bar_is_as_long_as_its_share() -> None:
    assert [bar(share, 2) for share in (0.0, 0.5, 0.53, 1.0, 7.0)] == ["", "█", "█", "██", "██"]
    assert bar(0.3, 1) == "▎"


def test_status_shows_the_windows_that_have_not_ended(home: Home, inside: Inside) -> None:
    now = time.time()
    with Ledger(home.ledger) as ledger:
        points = [
            WindowPoint("max", "5h", now - 60, 0.3, now + 7000, "allowed"),
            WindowPoint("max", "5h", now - 50, 0.456, now + 7000, "allowed"),
            WindowPoint("max", "7d", now - 60, 0.9, now - 1, "allowed"),
        ]
        ledger.write([], PRICES, points)
    assert "window      max: 46% of 5h used, resets in 117 min" in inside("status").out
    assert inside("status", "--json").json["windows"] == [
        {"account": "max", "window": "5h", "used": 0.456, "resets_at": int(now + 7000), "dry_at": None}
    ]
    home.ledger.write_bytes(b"no database" * 500)
    assert inside("status").code == 0


def test_doctor_names_models_of_unknown_price_and_a_ledger_that_is_damaged(used: Home, inside: Inside) -> None:
    assert "model odd of provider anthropic: has no known price: 1 request of the last 7 days" in inside("doctor").err
    for suffix in ("-wal", "-shm"):
        used.ledger.with_name(f"ledger.db{suffix}").unlink(missing_ok=True)
    used.ledger.write_bytes(b"no database" * 500)
    outcome = inside("doctor")
    assert outcome.code == 1
    assert "ledger.db" in outcome.out
    assert "is damaged, or isn't an SQLite database" in outcome.out
