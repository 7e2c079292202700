import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenferry.errors import CorruptFile, StorageFailed, UnsafeFile
from tokenferry.stores import DISK, FileLock, check_status, make_private_folder

_BUSY_SECONDS: Final = 5.0
_SIDE_FILES: Final = ("-wal", "-shm")
# Each entry brings a database one version further; `PRAGMA user_version` counts them. Entries are never edited.
_MIGRATIONS: Final = (
    """
    CREATE TABLE client_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        admin INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX live_client_key_names ON client_keys (name COLLATE NOCASE) WHERE revoked_at IS NULL;
    """,
)


class Database:
    """One 0600 SQLite file in WAL mode, with a connection that reads and one that writes.

    Both may be used from any thread. The reading one never waits for anybody: in WAL mode readers need no lock, and
    where SQLite wants one all the same (recovery after a crash) it gives up at once.
    Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_private_folder(path.parent)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        # SQLite's own waiting does not cover the change to WAL, nor the last one's way back out of it.
        self._door = FileLock(path, path.parent / "locks")
        with self._door.held(_BUSY_SECONDS), self._faults():
            _create(path)
            self._writer = _connect(path)
            try:
                self._migrate()
                self._reader = _connect(path)
                self._reader.execute("PRAGMA busy_timeout = 0")
            except BaseException:
                self._writer.close()
                raise

    def version(self) -> int:
        """A number that differs whenever the writing connection or another process has committed something.

        Microseconds; fit for an event loop. Raises `StorageFailed`.
        """
        with self._faults(), self._read_lock:
            (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    def rows(self, query: str) -> list[sqlite3.Row]:
        """Every row of a query. Raises `StorageFailed`."""
        with self._faults(), self._read_lock:
            return self._reader.execute(query).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of the block or nothing of it. Waits 5 s at most for other writers. Raises `StorageFailed`."""
        with self._faults(), self._write_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def close(self) -> None:
        """Close both connections; harmless when they are closed."""
        with self._read_lock, self._write_lock, self._door.held(_BUSY_SECONDS):
            self._reader.close()
            self._writer.close()

    def _migrate(self) -> None:
        found = self._version()
        if found > len(_MIGRATIONS):
            raise CorruptFile(f"{self.path} was written by a newer tokenferry (version {found}); update this one")
        if found == len(_MIGRATIONS):
            return
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for script in _MIGRATIONS[self._version() :]:
                for statement in filter(str.strip, script.split(";")):
                    self._writer.execute(statement)
            self._writer.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")

    def _version(self) -> int:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        return int(version)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as fault:
            raise StorageFailed(f"{self.path} could not be used: {fault}") from None
        except sqlite3.DatabaseError as fault:
            raise CorruptFile(
                f"{self.path} can't be understood: {fault}; move it and its -wal and -shm files away, then make the "
                "client keys anew with: tokenferry key create NAME"
            ) from None


def _create(path: Path) -> None:
    """Make the file 0600 from its first moment, or look at who else could read it.

    SQLite gives its side files the mode of the file itself.
    """
    try:
        os.close(DISK.create(path))
    except FileExistsError:
        pass
    except OSError as fault:
        raise StorageFailed(f"{path} can't be made: {fault.strerror}") from None
    for each in (path, *(path.with_name(path.name + suffix) for suffix in _SIDE_FILES)):
        with contextlib.suppress(FileNotFoundError):
            status = each.lstat()
            if stat.S_ISLNK(status.st_mode):
                raise UnsafeFile(f"{each} is a symbolic link; put the file itself there")
            check_status(each, status)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection
