import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from msgspec import Struct
from psycopg import Connection, Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import (
    DeadlockDetected,
    InsufficientPrivilege,
    LockNotAvailable,
    QueryCanceled,
    UndefinedTable,
    UniqueViolation,
)
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import IntLoader

from tokenferry.background import after_fork_in_child
from tokenferry.errors import ConfigError, Conflict, StorageFailed, StoreAway, TokenferryError, TryLater
from tokenferry.fleet import MOST_APART
from tokenferry.settings import StoreSettings
from tokenferry.stores import read_private_file

_Value = TypeVar("_Value")

CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 15.0
"""The time limit of one statement: a frozen server keeps its connections open, and answers none."""
GLANCE_SECONDS: Final = 3.0
"""The time limit of a statement that only checks whether the server answers."""
_WAIT: Final = 5.0
_IDLE: Final = 1.0
"""Seconds without use after which a connection is tested before it is used."""
_FOR_CLIENTS: Final = (
    "this gateway's database can't be used now; try again soon (for its operator: tokenferry store status)"
)
_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "tokenferry",
    # A host that is gone says nothing: without these its connections would hang for a quarter of an hour.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# Never closed: they are the parent's, and to close one here would end it there.
_of_parents: Final[list[object]] = []


class PostgresRow:
    """A row by column name, by position, and in order."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: dict[str, int], values: Sequence[Any]) -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, column: str | int) -> Any:
        return self._values[column if isinstance(column, int) else self._columns[column]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def keys(self) -> Sequence[str]:
        return tuple(self._columns)


class PostgresConnection(Connection[PostgresRow]):
    """A connection that is closed if a statement takes too long, which raises `OperationalError`."""

    answer_within = ANSWER_SECONDS
    """In seconds. A limit of statements at the server must be shorter."""

    def wait(self, gen: Generator[Any, Any, _Value], *arguments: Any, **options: Any) -> _Value:
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, steps: Generator[Any, Any, _Value]) -> Generator[Any, Any, _Value]:
        deadline = time.monotonic() + self.answer_within
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.answer_within:g} s")
                wanted = steps.send(ready)
        except StopIteration as end:
            value: _Value = end.value
            return value


_APART: Final = 30.0
"""The difference of two clocks that is reported, in seconds."""


class ServerFacts(Struct, frozen=True):
    """What a connection reports about its server."""

    version: int
    """Such as 150018."""
    is_pooled: bool
    """Whether a pooler is between, so that each transaction may have another backend."""
    is_standby: bool
    standbys: str
    """The servers that have a commit before it is reported: `synchronous_standby_names`."""
    clock: float
    """Seconds since 1970 UTC."""
    started: str
    """When the server was started, in its own format. Another value means another server, or a restart."""
    is_writable: bool
    """Whether this role may write tokenferry's tables, if they exist."""

    def clocks_apart(self, now: float) -> str:
        """Say how far the two clocks differ, and the consequence; empty up to 30 seconds."""
        apart = abs(self.clock - now)
        if apart <= _APART:
            return ""
        effect = ", so no login is refreshed here" if apart > MOST_APART else ""
        return f"the clocks of the database and of this machine are {apart:.0f} s apart{effect}"


class ConnectionPool:
    """Connections to one database, made on demand, and again after a fork. Thread-safe.

    Not `psycopg_pool`: its clients wait for the whole time-out while the server refuses connections, and learn no
    reason. All methods raise `StorageFailed` with the reason.
    """

    def __init__(self, settings: StoreSettings, *, url: str | None = None) -> None:
        """`url` replaces that of the settings, for operations that need the owner of the tables."""
        self._conninfo = url or settings.url or ""
        self._password_file: Path | None = settings.password_file
        parts = conninfo_of(self._conninfo)
        host, port = (str(parts.get(name) or "") for name in ("host", "port"))
        self.name = f"PostgreSQL {parts.get('dbname', '')} at {host or 'this machine'}{':' * bool(port)}{port}"
        self._most = settings.pool
        self._reset()
        after_fork_in_child(self._abandon)

    def _reset(self) -> None:
        self._idle: list[tuple[float, PostgresConnection]] = []
        self._slots = threading.BoundedSemaphore(self._most)
        self._is_closed = False

    def _abandon(self) -> None:
        _of_parents.extend(self._idle)
        self._reset()

    @contextlib.contextmanager
    def lease(self, answer_within: float = ANSWER_SECONDS) -> Iterator[PostgresConnection]:
        """Use a connection outside a transaction. Waits up to 5 s for one that is in use.

        After `answer_within` seconds of a statement the server counts as away. Raises `Conflict` if a unique value
        exists already, `TryLater` if a statement or a lock took too long.
        """
        with self.faults():
            if not self._slots.acquire(timeout=_WAIT):
                busy = TryLater(f"all {self._most} connections to {self.name} are in use; raise [store] pool")
                busy.for_clients = _FOR_CLIENTS
                raise busy
            try:
                connection = self._take()
                connection.answer_within = answer_within
                try:
                    yield connection
                finally:
                    self._give_back(connection)
            finally:
                self._slots.release()

    def connect(self) -> PostgresConnection:
        """Make a connection that the caller closes."""
        with self.faults():
            options = dict(_OPTIONS)
            if self._password_file is not None:
                options["password"] = _password(self._password_file)
            connection = PostgresConnection.connect(
                self._conninfo,
                autocommit=True,
                # What is prepared breaks when a migration changes a table, and behind poolers.
                prepare_threshold=None,
                row_factory=_rows_of,
                **options,
            )
            connection.adapters.register_loader("numeric", IntLoader)  # sums of whole numbers are whole
            return connection

    def facts(self) -> ServerFacts:
        """Ask the server about itself."""
        with self.lease() as connection:
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, pg_backend_pid(), pg_is_in_recovery(), "
                "current_setting('synchronous_standby_names'), extract(epoch FROM clock_timestamp())::float8, "
                "pg_postmaster_start_time()::text, "
                "coalesce(has_table_privilege(to_regclass('accounts'), 'INSERT'), true)"
            ).fetchone()
            assert row is not None
            version, pid, *rest = row
            return ServerFacts(version, pid != connection.info.backend_pid, *rest)

    def close(self) -> None:
        """Close idle connections now, and the others when they are returned. A second call does nothing."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    def _take(self) -> PostgresConnection:
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < _IDLE or _lives(connection):
                return connection
            self._close_idle()  # with it they have lost their server
        return self.connect()

    def _give_back(self, connection: PostgresConnection) -> None:
        is_idle = connection.info.transaction_status is TransactionStatus.IDLE
        if self._is_closed or not is_idle:
            connection.close()
        else:
            self._idle.append((time.monotonic(), connection))

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Raise our errors in place of the driver's."""
        try:
            yield
        except psycopg.Error as fault:
            error = self._error_of(fault)
            error.for_clients = _FOR_CLIENTS
            raise error from None

    def _error_of(self, fault: psycopg.Error) -> TokenferryError:
        match fault:
            case UniqueViolation():
                return Conflict(f"{self.name} has such a row already ({_first_line(fault)})")
            case QueryCanceled() | LockNotAvailable() | DeadlockDetected():
                return TryLater(f"{self.name} took too long ({_first_line(fault)}); try again")
            case UndefinedTable():
                return StorageFailed(f"{self.name} has no tokenferry tables; create them with: tokenferry store init")
            case InsufficientPrivilege():
                return StorageFailed(
                    f"{self.name} refuses it ({_first_line(fault)}); grant the rights with: "
                    "tokenferry store init --grant-to ROLE"
                )
        kind = StoreAway if isinstance(fault, psycopg.OperationalError) else StorageFailed
        return kind(f"{self.name} can't be used: {_first_line(fault)}; see: tokenferry store status")


def conninfo_of(url: str) -> dict[str, Any]:
    """Give the parts of a URL. Raises `ConfigError` for one that libpq can't read."""
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError as fault:
        raise ConfigError(f"[store] url can't be read: {_first_line(fault)}") from None


def _rows_of(cursor: Cursor[Any]) -> Any:
    columns = {column.name: at for at, column in enumerate(cursor.description or ())}
    return lambda values: PostgresRow(columns, values)


def _lives(connection: PostgresConnection) -> bool:
    connection.answer_within = GLANCE_SECONDS
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        connection.close()
        return False
    return True


def _password(path: Path) -> str:
    try:
        return read_private_file(path).decode("utf-8").strip()
    except FileNotFoundError:
        raise StorageFailed(f"[store] password_file is {path}, which does not exist") from None


def _first_line(fault: psycopg.Error) -> str:
    return str(fault).strip().partition("\n")[0] or type(fault).__name__
