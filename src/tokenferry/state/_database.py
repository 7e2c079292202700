"""What state and ledger need of a database. Their statements are those that SQLite and PostgreSQL both understand."""

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
    """Each with its type, and what is written: `?` stands for the value."""
    end: str
    """Such as `ON CONFLICT DO NOTHING`."""

    def statement(self, rows: int) -> str:
        """The one for so many rows."""
        row = f"({', '.join(written for _, _, written in self.columns)})"
        names = ", ".join(name for name, _, _ in self.columns)
        return f"INSERT INTO {self.table} ({names}) VALUES {', '.join([row] * rows)} {self.end}"  # noqa: S608  # names of ours


class Row(Protocol):
    """A row: its values by column name, by position, and in order."""

    def __getitem__(self, column: str | int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def keys(self) -> Iterable[str]: ...


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Transaction(Protocol):
    """What writes. `?` stands for each value, whatever the engine writes in its place."""

    def execute(self, statement: str, values: Values = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Values], /) -> object: ...


class Database(Protocol):
    """The database of the state or the ledger. Thread-safe. All methods raise `StorageFailed` and `CorruptFile`."""

    @property
    def name(self) -> str:
        """As messages call it."""

    @property
    def is_shared(self) -> bool:
        """Whether several hosts share it."""

    @property
    def size(self) -> int:
        """In bytes; 0 where that isn't known."""

    def revision(self, table: str) -> int:
        """A number that differs after each change of this table. May be called on an event loop."""

    def version(self) -> int:
        """A number that differs whenever anything was changed. Fit for an event loop."""

    def follow(self, table: str, read: Callable[[], object], forget: Callable[[], object] | None = None) -> bool:
        """Whether `read` will be called, on another thread, after each change of the table.

        If so its reader needn't ask, and may not on an event loop. `forget` is called once what was read is too old.
        """

    def away_for(self) -> float:
        """For how many seconds it hasn't answered those who follow it; 0 while it does."""

    def rows(self, query: str, values: Values = (), *, seconds: float | None = None) -> Sequence[Row]:
        """Every row of a query. Raises `TryLater` if it takes longer than `seconds`."""

    def read_back(self, query: str, values: Values = ()) -> Sequence[Row]:
        """The same, by a connection of its own: what others see."""

    def transaction(self, *, overwrites: bool = False) -> AbstractContextManager[Transaction]:
        """Write: all of the block or nothing of it; no other process writes until it ends.

        With `overwrites` what is deleted is overwritten, where the engine can. Raises `Conflict` where a row was to be
        unique and another one has the same value.
        """

    def insert(self, transaction: Transaction, into: BulkInsert, values: Sequence[Value]) -> None:
        """Insert rows in the engine's cheapest way. All their values follow one another in the order of the columns."""

    def vacuum(self, pages: int) -> int:
        """Give free pages back to the disk, so many at most; give how many are left."""

    def keep_days(self, today: int, oldest: int) -> None:
        """Where tables are cut by day: make those to come, and drop those before `oldest`, in days since 1970."""

    def now(self, transaction: Transaction) -> float | None:
        """Seconds by a clock that all hosts see; None where the machine's own will do."""

    def close(self) -> None:
        """Harmless when it is closed."""
