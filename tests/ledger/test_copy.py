"""A ledger that was copied tells the same, however often it was copied, and whatever was there."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.books import DAY, NOW, PRICES, entry
from tokenferry.errors import StorageFailed
from tokenferry.ledger import Ledger, LedgerEntry, OtherModel, WindowPoint, copy_ledger
from tokenferry.ledger import _copy as module
from tokenferry.ledger._schema import COLUMNS, DIMENSIONS, SUMS
from tokenferry.prices import TokenCounts
from tokenferry.settings import LedgerSettings

KEPT = LedgerSettings(keep_requests=30 * DAY)


@pytest.fixture
def shared(path: Path) -> Iterator[Ledger]:
    with Ledger(path, now=lambda: NOW) as ledger:
        yield ledger


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Ledger]:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    with Ledger(folder / "ledger.db", now=lambda: NOW) as ledger:
        yield ledger


def book(seed: int) -> list[LedgerEntry]:
    """Requests of forty days, most of them with something absent or unusual."""
    rng = random.Random(seed)
    return [
        entry(
            number,
            at=NOW - rng.randrange(40 * DAY),
            key_id=rng.choice(["key_1", f"key_of_{seed}", ""]),
            account=rng.choice(["alice", "bob"]),
            model=rng.choice(["claude-opus-5", "odd", ""]),
            session=rng.choice(["", f"s-{number % 3}"]),
            error=rng.choice(["", "rate_limit_error"]),
            speed=rng.choice(["", "fast"]),
            input=rng.choice([None, 0, 100]),
            first_byte=rng.choice([None, 0.5]),
            is_side=rng.random() < 0.2,
            others=(OtherModel("claude-haiku-4-5-20251001", TokenCounts(10, 1, 0, 0, 0, 0)),) * (number % 2),
        )
        for number in range(seed * 1000, seed * 1000 + 60)
    ]


def write(ledger: Ledger, seed: int) -> None:
    points = [WindowPoint("alice", "5h", NOW - number * 60, number / 10, NOW + 600, "allowed") for number in range(3)]
    ledger.write(book(seed), PRICES, points)


def contents(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """All that a ledger tells, by names in place of numbers."""
    names = {row["id"]: (row["kind"], row["value"]) for row in ledger.rows("SELECT * FROM names")}
    prices = {row["id"]: tuple(row)[1:] for row in ledger.rows("SELECT * FROM prices")}

    def rows(table: str, columns: tuple[str, ...], named: tuple[str, ...]) -> list[tuple[object, ...]]:
        found = ledger.rows(f"SELECT {', '.join(columns)} FROM {table}")
        return sorted(
            (
                tuple(
                    names.get(row[one], "") if one in named else prices.get(row[one]) if one == "price" else row[one]
                    for one in columns
                )
                for row in found
            ),
            key=repr,
        )

    sums = ("period", *DIMENSIONS, *SUMS)
    return {
        "requests": rows("requests", COLUMNS, COLUMNS[:12]),
        "hours": rows("hours", sums, DIMENSIONS[:-1]),
        "days": rows("days", sums, DIMENSIONS[:-1]),
        "windows": rows("windows", ("account", "name", "at_ms", "used_ppm", "reset_ms", "status"), ("account", "name")),
    }


def test_a_copy_tells_the_same_there_and_back(own: Ledger, shared: Ledger, tmp_path: Path) -> None:
    """Also of requests that were deleted since, of which sums alone are left."""
    write(own, 1)
    own.retain(KEPT, seconds=60)
    before = contents(own)
    assert len(before["requests"]) < 60
    assert copy_ledger(own, shared) == len(before["requests"])
    assert contents(shared) == before
    assert copy_ledger(own, shared) == 0, "what is there is not counted again"
    assert copy_ledger(shared, own) == 0
    assert contents(shared) == contents(own) == before
    (tmp_path / "back").mkdir(mode=0o700)
    with Ledger(tmp_path / "back" / "ledger.db", now=lambda: NOW) as back:
        copy_ledger(shared, back)
        assert contents(back) == before


def test_what_is_there_stays_and_what_comes_is_added(own: Ledger, shared: Ledger, tmp_path: Path) -> None:
    write(own, 1)
    write(shared, 2)
    copy_ledger(own, shared)
    (tmp_path / "both").mkdir(mode=0o700)
    with Ledger(tmp_path / "both" / "ledger.db", now=lambda: NOW) as both:
        write(both, 1)
        write(both, 2)
        assert contents(shared) == contents(both)


def test_a_copy_that_was_cut_short_goes_on(own: Ledger, shared: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own, 1)
    own.retain(KEPT, seconds=60)
    monkeypatch.setattr(module, "_ROWS_A_PAGE", 10)
    transaction, left = shared.transaction, [3]

    def cut() -> object:
        left[0] -= 1
        if left[0] == 0:
            raise StorageFailed("the disk is full")
        return transaction()

    with monkeypatch.context() as patched:
        for number in range(1, 10):
            left[0] = number
            patched.setattr(shared, "transaction", cut)
            try:
                copy_ledger(own, shared)
            except StorageFailed:
                continue
            break
    copy_ledger(own, shared)
    assert contents(shared) == contents(own)


def test_a_name_keeps_its_later_label(own: Ledger, shared: Ledger) -> None:
    own.write([entry(1, at=NOW - DAY, key_name="before")], PRICES)
    shared.write([entry(2, at=NOW, key_name="now")], PRICES)
    copy_ledger(own, shared)
    assert [row["label"] for row in shared.rows("SELECT label FROM names WHERE kind = 'key'")] == ["now"]
    copy_ledger(shared, own)
    assert [row["label"] for row in own.rows("SELECT label FROM names WHERE kind = 'key'")] == ["now"]
