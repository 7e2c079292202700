import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec
from psycopg import Cursor

from tokenferry.errors import TryLater
from tokenferry.postgres._connections import (
    ANSWER_SECONDS,
    GLANCE_SECONDS,
    ConnectionPool,
    PostgresConnection,
    PostgresRow,
)
from tokenferry.postgres._watch import RevisionWatch
from tokenferry.state import BulkInsert, Transaction, Value, Values

Area: TypeAlias = Literal["state", "ledger"]
_LOCK_TIMEOUT: Final = "5s"
_STATEMENT_SECONDS: Final[dict[Area, int]] = {"state": 10, "ledger": 30}
_DAYS_AHEAD: Final = 2


class PostgresTransaction:
    """Statements with `?` as the place of each value, in one transaction."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Values = ()) -> Cursor[PostgresRow]:
        return self._connection.execute(translated(statement), values)

    def executemany(self, statement: str, rows: Iterable[Values]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(translated(statement), rows)


class PostgresDatabase:
    """The `Database` of state or ledger in PostgreSQL. Thread-safe.

    Without a watch every method but `close` asks the server. Only one transaction of an area writes at a time, as on
    SQLite: each locks the area's row of `revisions` first. So its reads stay true until it ends, and row ids have the
    order of commits.
    """

    def __init__(self, connections: ConnectionPool, area: Area, watch: RevisionWatch | None = None) -> None:
        """With a `watch`, which this closes, followed tables are in memory, and no event loop asks the server."""
        self._connections = connections
        self._watch = watch
        self._area = area
        self._begin = _begin(area)
        self._answer_within = max(ANSWER_SECONDS, _STATEMENT_SECONDS[area] + GLANCE_SECONDS)

    @property
    def name(self) -> str:
        return self._connections.name

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def size(self) -> int:
        """Give the size of the whole database; read once a minute, so that no request waits for it."""
        return 0

    def revision(self, table: str) -> int:
        return self._number(table) if self._watch is None else self._watch.numbers.get(table, 0)

    def version(self) -> int:
        return self.revision(self._area)

    def follow(self, table: str, read: Callable[[], object], forget: Callable[[], object] | None = None) -> bool:
        if self._watch is None:
            return False
        self._watch.follow(table, read, forget)
        return True

    def away_for(self) -> float:
        return 0.0 if self._watch is None else self._watch.away_for()

    def _number(self, name: str) -> int:
        rows = self.rows("SELECT number FROM revisions WHERE name = ?", (name,))
        return int(rows[0]["number"]) if rows else 0

    def rows(self, query: str, values: Values = (), *, seconds: float | None = None) -> Sequence[PostgresRow]:
        if seconds is None:
            with self._connections.lease(self._answer_within) as connection:
                return connection.execute(translated(query), values).fetchall()
        try:
            with self._connections.lease(seconds + ANSWER_SECONDS) as connection, connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")  # a number of ours
                return connection.execute(translated(query), values).fetchall()
        except TryLater:
            raise TryLater(
                f"{self.name} has too many rows to answer this within {seconds:g} s; ask for a shorter time"
            ) from None

    def read_back(self, query: str, values: Values = ()) -> Sequence[PostgresRow]:
        return self.rows(query, values)

    @contextlib.contextmanager
    def transaction(self, *, overwrites: bool = False) -> Iterator[PostgresTransaction]:  # noqa: ARG002  # VACUUM does
        with self._connections.lease(self._answer_within) as connection, connection.transaction():
            connection.execute(self._begin)
            yield PostgresTransaction(connection)

    def insert(self, transaction: Transaction, into: BulkInsert, values: Sequence[Value]) -> None:
        """Insert all values as one JSON text: the driver takes thirty times as long to write each value."""
        rows = zip(*[iter(values)] * len(into.columns), strict=True)
        transaction.execute(_from_json(into), (msgspec.json.encode(list(rows)).decode(),))

    def vacuum(self, pages: int) -> int:  # noqa: ARG002  # autovacuum does it
        return 0

    def keep_days(self, today: int, oldest: int) -> None:
        with self.transaction() as transaction:
            transaction.execute("SELECT keep_days(?, ?, ?)", (today, today + _DAYS_AHEAD, oldest))

    def now(self, transaction: Transaction) -> float:
        (seconds,) = transaction.execute("SELECT extract(epoch FROM clock_timestamp())::double precision").fetchone()
        return float(seconds)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._connections.close()


def _begin(area: Area) -> bytes:
    """Give the statements at the beginning of each transaction, as one message."""
    durable = "on" if area == "state" else "off"  # the last moments of the ledger may be lost, as on SQLite
    return (
        f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'; SET LOCAL statement_timeout = '{_STATEMENT_SECONDS[area]}s'; "  # noqa: S608  # words of ours
        f"SET LOCAL synchronous_commit = {durable}; UPDATE revisions SET number = number + 1 WHERE name = '{area}'"
    ).encode()


@lru_cache(maxsize=32)
def _from_json(into: BulkInsert) -> str:
    names = ", ".join(name for name, _, _ in into.columns)
    written = ", ".join(one.replace("?", f"(given->>{at})::{kind}") for at, (_, kind, one) in enumerate(into.columns))
    return f"INSERT INTO {into.table} ({names}) SELECT {written} FROM jsonb_array_elements(?) AS given {into.end}"  # noqa: S608  # names of ours


@lru_cache(maxsize=1024)
def translated(statement: str) -> bytes:
    """Give the statement in psycopg's form. None of our statements has a `?` in a text."""
    return statement.replace("%", "%%").replace("?", "%s").encode()
