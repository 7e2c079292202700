"""The interface of a database for state and ledger, whose statements both SQLite and PostgreSQL understand."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

Value: TypeAlias = str | int | bytes | None
Values: TypeAlias = Sequence[Value]


class BulkInsert(Struct, frozen=True):
    """An `INSERT` of many rows."""

    table: str
    columns: tuple[tuple[str, str, str], ...]
    """The columns with their types, and the expression for each value; `?` is the value."""
    end: str
    """The end of the statement, such as `ON CONFLICT DO NOTHING`."""

    def statement(self, rows: int) -> str:
        """Give the statement for this number of rows."""
        row = f"({', '.join(written for _, _, written in self.columns)})"
        names = ", ".join(name for name, _, _ in self.columns)
        return f"INSERT INTO {self.table} ({names}) VALUES {', '.join([row] * rows)} {self.end}"  # noqa: S608  # names of ours


class Row(Protocol):
    """A row: its values in order, by column name and by position."""

    def __getitem__(self, column: str | int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def keys(self) -> Iterable[str]: ...


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Transaction(Protocol):
    """Runs statements that write. `?` is the place of a value in every engine."""

    def execute(self, statement: str, values: Values = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object: ...


class Database(Protocol):
    """The database of the state or the ledger. Thread-safe. All methods raise `StorageFailed` and `CorruptFile`."""

    @property
    def name(self) -> str:
        """The database's name in messages."""

    @property
    def is_shared(self) -> bool:
        """Whether several hosts share it."""

    @property
    def size(self) -> int:
        """The size in bytes; 0 if it is unknown."""

    def revision(self, table: str) -> int:
        """Give a number that differs after each change of this table. An event loop may call it."""

    def version(self) -> int:
        """Give a number that differs after any change. An event loop may call it."""

    def follow(self, table: str, read: Callable[[], object], forget: Callable[[], object] | None = None) -> bool:
        """Ask for `read` to be called after each change of a table. Gives False if that isn't supported.

        It is called on another thread. If it is supported, the reader must not ask on an event loop. `forget` is called
        once when what was read is too old.
        """

    def away_for(self) -> float:
        """Give for how many seconds the database hasn't answered its followers; 0 while it answers."""

    def rows(self, query: str, values: Values = (), *, seconds: float | None = None) -> Sequence[Row]:
        """Give every row of a query. Raises `TryLater` if it takes longer than `seconds`."""

    def read_back(self, query: str, values: Values = ()) -> Sequence[Row]:
        """Give every row of a query over a new connection, as other processes see them."""

    def transaction(self, *, overwrites: bool = False) -> AbstractContextManager[Transaction]:
        """Run a block as one transaction. No other process writes until it ends.

        `overwrites` makes the engine overwrite deleted content, if it can. Raises `Conflict` if a unique value exists
        already.
        """

    def insert(self, transaction: Transaction, into: BulkInsert, values: Sequence[Value]) -> None:
        """Insert rows in the engine's cheapest way. `values` holds all their values in the order of the columns."""

    def vacuum(self, pages: int) -> int:
        """Return up to this many free pages to the disk; give how many are left."""

    def keep_days(self, today: int, oldest: int) -> None:
        """If tables are split by day, create the coming ones, and drop those before `oldest` (days since 1970)."""

    def now(self, transaction: Transaction) -> float | None:
        """Give seconds of a clock that all hosts share; None if the machine's own clock is enough."""

    def close(self) -> None:
        """Close it; a second call does nothing."""
