import contextlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.errors import Conflict, CorruptFile, StorageFailed, TryLater, UnsafeFile
from tokenferry.state._database import BulkInsert, Transaction, Value, Values
from tokenferry.stores import DISK, WRITTEN_BY_NEWER, FileLock, check_status, make_private_folder, reason_of

logger = logging.getLogger(__name__)

_BUSY_SECONDS: Final = 5.0
_SIDE_FILES: Final = ("-wal", "-shm")
# By SQLite's primary result code.
_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"
_FAULTS: Final = {
    sqlite3.SQLITE_BUSY: "another process is writing to it; try again",
    sqlite3.SQLITE_LOCKED: "another process is writing to it; try again",
    sqlite3.SQLITE_FULL: "its disk is full; make room there, then try again",
    sqlite3.SQLITE_READONLY: "it is read-only; make it and its folder writable, then try again",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; look at the modes of it and of its folder",
    sqlite3.SQLITE_IOERR: "its disk took or gave no data; look whether it is full or failing",
}
_WRITER_CACHE: Final = 512
"""KiB. SQLite's default of 2 MiB would fill with pages that are never read again."""
_ROWS_A_STATEMENT: Final = (128, 16, 1)
"""Only a few sizes: statements are cached, and a statement of many rows takes a megabyte."""
_PRIMARY: Final = 0xFF
_STEPS_A_LOOK: Final = 20_000
"""How many instructions of SQLite run, in some milliseconds, between two looks at the clock."""


class Schema(Struct, frozen=True):
    """The tables of a file, and how it is written."""

    migrations: tuple[str, ...]
    """Each brings a file to the next version, which `PRAGMA user_version` counts. They are never edited."""
    pragmas: tuple[str, ...]
    """Run on each connection before the first write."""
    cure: str
    """What to do after a corrupt file was moved away."""


class SqliteDatabase:
    """A SQLite file (0600) in WAL mode, with a connection to read and one to write. Thread-safe.

    The reading one never waits: in WAL mode readers need no lock, and where SQLite wants one, in a recovery after a
    crash, it gives up at once. Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self._schema = schema
        make_private_folder(path.parent)
        self._version: int | None = None
        self._revisions: dict[str, int] = {}
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        # SQLite's own waiting does not cover the change to WAL, nor the last one's way back out of it.
        self._door = FileLock(path, path.parent / "locks")
        with self._door.held(_BUSY_SECONDS), self._faults():
            _create(path)
            self._writer = _connect(path, schema)
            try:
                self._writer.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
                self._migrate()
                self._reader = _connect(path, schema)
                self._reader.execute("PRAGMA busy_timeout = 0")
            except BaseException:
                self._writer.close()
                raise

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def size(self) -> int:
        with contextlib.suppress(OSError):
            return self.path.stat().st_size
        return 0

    def revision(self, table: str) -> int:
        """Give a number that differs after each change of this table by any process.

        It takes microseconds, so an event loop may call it. A table without a number of its own has the file's. Raises
        `StorageFailed`, `CorruptFile`.
        """
        with self._faults(), self._read_lock:
            (version,) = self._reader.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                rows = self._reader.execute("SELECT name, number FROM revisions").fetchall()
                self._revisions = {row["name"]: row["number"] for row in rows}
                self._version = version
            return self._revisions.get(table, -int(version))

    def follow(self, table: str, read: object, forget: object = None) -> bool:  # noqa: ARG002  # readers ask
        return False

    def away_for(self) -> float:
        return 0.0

    def version(self) -> int:
        """Give a number that differs after any change of the file, in microseconds; raises as `revision` does."""
        with self._faults(), self._read_lock:
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    def rows(self, query: str, values: Values = (), *, seconds: float | None = None) -> list[sqlite3.Row]:
        """Give every row of a query. Raises `StorageFailed`, `CorruptFile`; `TryLater` after `seconds`."""
        with self._faults(), self._read_lock:
            if seconds is None:
                return self._reader.execute(query, values).fetchall()
            end = time.monotonic() + seconds
            self._reader.set_progress_handler(lambda: time.monotonic() > end, _STEPS_A_LOOK)
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.OperationalError as fault:
                if getattr(fault, "sqlite_errorcode", 0) & _PRIMARY != sqlite3.SQLITE_INTERRUPT:
                    raise
                raise TryLater(
                    f"{self.path.name} has too many rows to answer this within {seconds:g} s; ask for a shorter time"
                ) from None
            finally:
                self._reader.set_progress_handler(None, 0)

    def read_back(self, query: str, values: Values = ()) -> list[sqlite3.Row]:
        """Give every row of a query over a new connection, as other processes see the file now.

        Raises `StorageFailed`, `CorruptFile`.
        """
        with self._faults(), self._door.held(_BUSY_SECONDS):
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
            with contextlib.closing(connection):
                _read_as(connection)
                return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, overwrites: bool = False) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction. It waits up to 5 s for other writers.

        Raises `StorageFailed`, `CorruptFile`, and `Conflict` if a unique value exists already.
        """
        with self._faults(), self._write_lock:
            if overwrites:
                self._writer.execute("PRAGMA secure_delete = 1").fetchall()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # on a full disk SQLite has taken it back already
                    self._writer.execute("ROLLBACK")
                raise

    def insert(self, transaction: Transaction, into: BulkInsert, values: Sequence[Value]) -> None:
        """Insert rows, many in a statement. `values` holds all their values in the order of the columns."""
        at = 0
        for rows in _ROWS_A_STATEMENT:
            step = rows * len(into.columns)
            while len(values) - at >= step:
                transaction.execute(_statement(into, rows), values[at : at + step])
                at += step

    def vacuum(self, pages: int) -> int:
        """Return up to this many free pages to the disk; give how many are left.

        Needs `auto_vacuum = INCREMENTAL`.
        """
        with self._faults(), self._write_lock:
            self._writer.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            (left,) = self._writer.execute("PRAGMA freelist_count").fetchone()
            if not left:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return int(left)

    def keep_days(self, today: int, oldest: int) -> None:
        """Do nothing: no table is split by day."""

    def now(self, transaction: object) -> None:  # noqa: ARG002  # every process has the same clock
        return None

    def copy_to(self, target: Path) -> None:
        """Write a complete copy into an empty file. Raises `StorageFailed`, `CorruptFile`."""
        with self._faults(), contextlib.closing(_connect(self.path, self._schema)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))

    def copy_from(self, source: Path) -> None:
        """Replace the content by another file's, in one transaction. Raises `StorageFailed`, `CorruptFile`."""
        with (
            self._faults(),
            contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as other,
        ):
            if not self._is_copy(other):
                raise CorruptFile(f"{source} is not a whole copy of {self.path.name}; name one that this version made")
            with self._write_lock:
                other.backup(self._writer)
        self._migrate()

    def _is_copy(self, other: sqlite3.Connection) -> bool:
        """Whether another file is whole, of this version or an older one, and has the tables of that version."""
        try:
            (fault,) = other.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = other.execute("PRAGMA user_version").fetchone()
            if fault != "ok" or not 0 < version <= len(self._schema.migrations):
                return False
            with contextlib.closing(sqlite3.connect(":memory:")) as model:
                for script in self._schema.migrations[:version]:
                    model.executescript(script)
                return {*model.execute(_TABLES)} <= {*other.execute(_TABLES)}
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False

    def close(self) -> None:
        """Close both connections; a second call does nothing."""
        with self._read_lock, self._write_lock, self._door.held(_BUSY_SECONDS):
            self._reader.close()
            self._writer.close()

    def _migrate(self) -> None:
        found, migrations = self._written_version(), self._schema.migrations
        if found > len(migrations):
            raise CorruptFile(f"{self.path} is of version {found}, {WRITTEN_BY_NEWER}")
        if found == len(migrations):
            return
        with self.transaction() as connection:
            for script in migrations[self._written_version() :]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(migrations)}")

    def _written_version(self) -> int:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        return int(version)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as fault:
            if fault.sqlite_errorcode not in {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}:
                raise
            raise Conflict(f"{self.path.name} has such a row already") from None
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as fault:
            logger.debug("%s: %s", self.path, fault)
            code = getattr(fault, "sqlite_errorcode", 0) & _PRIMARY
            reason = _FAULTS.get(code, f"SQLite reports: {fault}; look at it with: tokenferry doctor")
            raise StorageFailed(f"{self.path} can't be used: {reason}") from None
        except sqlite3.DatabaseError as fault:
            logger.debug("%s: %s", self.path, fault)
            raise CorruptFile(
                f"{self.path} is damaged, or isn't an SQLite database; end the gateways, move it and its -wal and "
                f"-shm files away, {self._schema.cure}"
            ) from None


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for part in script.split(";")[:-1]:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):  # a trigger has semicolons of its own
            yield statement
            statement = ""


@lru_cache(maxsize=32)
def _statement(into: BulkInsert, rows: int) -> str:
    return into.statement(rows)


def _create(path: Path) -> None:
    """Create the file with mode 0600, or check who else can read it. SQLite gives its other files the same mode."""
    try:
        os.close(DISK.create(path))
    except FileExistsError:
        pass
    except OSError as fault:
        raise StorageFailed(f"{path} can't be made: {reason_of(fault)}") from None
    for each in (path, *(path.with_name(path.name + suffix) for suffix in _SIDE_FILES)):
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise UnsafeFile(f"{each} is a symbolic link; put the file itself there")
            check_status(each, status)


def _connect(path: Path, schema: Schema) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _read_as(connection)
        for pragma in schema.pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _read_as(connection: sqlite3.Connection) -> None:
    """Give rows with column names. Text that isn't UTF-8 is escaped; otherwise its row would hide all others."""
    connection.row_factory = sqlite3.Row
    connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
