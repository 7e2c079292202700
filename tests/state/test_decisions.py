import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenferry.errors import StorageFailed
from tokenferry.state import Database, Decision, Decisions, SqliteDatabase, State
from tokenferry.state._migrations import STATE_SCHEMA


@pytest.fixture
def database(path: Path | Database) -> Iterator[Database]:
    database = SqliteDatabase(path, STATE_SCHEMA) if isinstance(path, Path) else path
    yield database
    database.close()


def decisions(first: int, last: int) -> list[Decision]:
    return [Decision(f"tf_{number}", number, {"account": "älice", "attempts": [1]}) for number in range(first, last)]


def test_what_one_process_writes_another_one_reads(database: Database, path: Path) -> None:
    with State(path) as elsewhere:
        assert elsewhere.decisions.get("tf_1") is None
        Decisions(database).add(decisions(0, 3))
        assert elsewhere.decisions.get("tf_1") == decisions(1, 2)[0]
        assert elsewhere.decisions.get("tf_3") is None


def test_the_latest_are_kept_and_the_oldest_given_up(database: Database) -> None:
    kept = Decisions(database, most=10)
    for first in range(0, 40, 4):
        kept.add(decisions(first, first + 4))
    assert [one for one in range(40) if kept.get(f"tf_{one}") is not None] == list(range(30, 40))
    kept.add(decisions(100, 150))
    assert [one for one in range(150) if kept.get(f"tf_{one}") is not None] == list(range(140, 150))


def test_the_latest_come_newest_first(database: Database) -> None:
    kept = Decisions(database)
    assert kept.latest(2) == []
    kept.add(decisions(0, 4))
    assert [one.request_id for one in kept.latest(2)] == ["tf_3", "tf_2"]
    assert kept.latest(9) == decisions(0, 4)[::-1]


def test_nothing_to_write_is_nothing(database: Database) -> None:
    Decisions(database).add([])
    assert database.rows("SELECT * FROM decisions") == []


def test_a_batch_is_written_whole_or_not_at_all(database: Database, file: Path) -> None:
    with database.transaction() as connection:
        connection.execute("CREATE TRIGGER no_more AFTER INSERT ON decisions WHEN new.request_id = 'tf_2'"
                           " BEGIN SELECT raise(ABORT, 'full'); END")  # fmt: skip
    with pytest.raises(sqlite3.IntegrityError, match="full"):
        Decisions(database).add(decisions(0, 4))
    assert database.rows("SELECT * FROM decisions") == []


def test_a_closed_database_is_an_error_of_ours(database: Database, file: Path) -> None:
    database.close()
    with pytest.raises(StorageFailed, match="closed"):
        Decisions(database).add(decisions(0, 1))
