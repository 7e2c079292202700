"""Numbered migrations in SQL, each in its own transaction, under one lock."""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from psycopg import sql
from psycopg.errors import DuplicateTable, UniqueViolation

from tokenferry.errors import Conflict, StorageFailed, TryLater
from tokenferry.postgres._connections import ANSWER_SECONDS, ConnectionPool, PostgresConnection, ServerFacts
from tokenferry.secret import Secret
from tokenferry.settings import StoreSettings

_FOLDER: Final = Path(__file__).parent / "migrations"
_OLDEST_SERVER: Final = 150_000
_SECRET_BYTES: Final = 32
_TRIES: Final = 10
_LOCK_TIMEOUT: Final = "3s"
_STATEMENT_SECONDS: Final = 600


_READ_ONLY: Final = "this role may only read its tables; grant it all with: tokenferry store init --grant-to ROLE"


class Migration(Struct, frozen=True):
    """A step from one schema to the next. Its text is never edited after a release."""

    number: int
    name: str
    script: str


class SchemaStatus(Struct, frozen=True):
    """The state of a database's schema."""

    fleet: str
    """The fleet's name; empty without tables."""
    schema: int
    """The last migration that ran."""
    known: int
    """The last migration of this version."""


def fault_of(facts: ServerFacts, schema: SchemaStatus, settings: StoreSettings) -> str:
    """Say why this database can't be used, and the fix; empty if it can."""
    if facts.is_standby:
        return "it is a standby, which can't be written; add target_session_attrs=read-write to [store] url"
    if facts.version < _OLDEST_SERVER:
        return "it is older than PostgreSQL 15; upgrade the server"
    if not schema.fleet:
        return "it has no tokenferry tables; create them with: tokenferry store init"
    if schema.fleet != settings.fleet:
        return f"it holds the fleet {schema.fleet!r}, and [store] fleet says {settings.fleet!r}; correct one of them"
    if schema.schema < schema.known:
        return "its tables are of an older version; bring them up with: tokenferry store upgrade"
    return "" if facts.is_writable else _READ_ONLY


def check(connections: ConnectionPool, settings: StoreSettings) -> None:
    """Raise `StorageFailed` if the database can't be used, or belongs to another fleet."""
    if fault := fault_of(connections.facts(), schema_status(connections), settings):
        raise StorageFailed(f"{connections.name} can't be used: {fault}")


def migrations() -> tuple[Migration, ...]:
    """Give all migrations of this version, in order."""
    found = [
        Migration(int(path.name[:4]), path.stem[5:], path.read_text(encoding="utf-8"))
        for path in sorted(_FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]
    assert [one.number for one in found] == [*range(1, len(found) + 1)]
    return tuple(found)


def schema_status(connections: ConnectionPool) -> SchemaStatus:
    """Read the state of the schema. Raises `StorageFailed`."""
    with connections.lease() as connection:
        fleet, schema = _standing(connection)
    return SchemaStatus(fleet, schema, len(migrations()))


def initialise(connections: ConnectionPool, fleet: str) -> Sequence[str]:
    """Create missing tables and run the migrations; give the names of those that ran.

    It may be repeated, also by several processes at once. Raises `Conflict` if the tables belong to another fleet.
    """
    first, *_ = migrations()
    with connections.lease() as connection:
        found, _ = _standing(connection)
        if found and found != fleet:
            raise Conflict(f"{connections.name} holds the fleet {found!r}; name that one, or another database")
        done = []
        if not found:
            try:
                with _exclusive(connection):
                    connection.execute(first.script.encode())
                    connection.execute("UPDATE fleet SET name = %s, schema = 1", (fleet,))
                done.append(first.name)
            except (DuplicateTable, UniqueViolation) as fault:
                if _standing(connection)[0] != fleet:
                    raise StorageFailed(
                        f"{connections.name} has a table of another program ({str(fault).strip()}); give tokenferry a "
                        "database of its own"
                    ) from None
    return [*done, *upgrade(connections)]


def upgrade(
    connections: ConnectionPool,
    *,
    known: Sequence[Migration] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Sequence[str]:
    """Run the missing migrations; give their names. Of several processes only one runs each.

    A migration that doesn't get its locks within 3 s lets others pass and tries again, ten times. Raises
    `StorageFailed`, `TryLater`.
    """
    done = []
    for migration in migrations() if known is None else known:
        for attempt in range(_TRIES):
            try:
                with connections.lease() as connection:
                    done += [migration.name] if _run(connection, migration) else []
                break
            except TryLater:
                if attempt == _TRIES - 1:
                    raise
                wait(0.5 * (attempt + 1))
    return done


def _run(connection: PostgresConnection, migration: Migration) -> bool:
    """Run a migration; tell whether it was missing."""
    if _standing(connection)[1] >= migration.number:
        return False
    with _exclusive(connection):
        # Of the table, not of its row: who waits for that would hold a lock that a change of the table waits for.
        connection.execute("LOCK TABLE fleet IN SHARE UPDATE EXCLUSIVE MODE")
        row = connection.execute("SELECT schema FROM fleet").fetchone()
        if row is None:
            raise StorageFailed("the database has no fleet; make one with: tokenferry store init")
        if row["schema"] >= migration.number:
            return False
        connection.execute(migration.script.encode())
        connection.execute("UPDATE fleet SET schema = %s", (migration.number,))
    return True


def grant(connections: ConnectionPool, role: str) -> None:
    """Let a role read and write the tables, but not change or drop them. Raises `StorageFailed`."""
    statements = (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        # What later migrations make.
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}",
    )
    with connections.lease() as connection:
        row = connection.execute("SELECT current_schema()").fetchone()
        assert row is not None
        names = {"schema": sql.Identifier(row[0]), "role": sql.Identifier(role)}
        with connection.transaction():
            for statement in statements:
                connection.execute(sql.SQL(statement).format(**names))


def shared_login_secret(connections: ConnectionPool) -> Secret:
    """Give the secret with which a fleet's gateways begin and finish logins; made once. Raises `StorageFailed`."""
    made = secrets.token_hex(_SECRET_BYTES)
    with connections.lease() as connection:
        connection.execute("UPDATE fleet SET login_secret = %s WHERE login_secret IS NULL", (made,))
        row = connection.execute("SELECT login_secret FROM fleet").fetchone()
        if row is None:
            raise StorageFailed(f"{connections.name} has no fleet; make one with: tokenferry store init")
        return Secret(row[0])


def _standing(connection: PostgresConnection) -> tuple[str, int]:
    row = connection.execute("SELECT to_regclass('fleet') IS NOT NULL").fetchone()
    assert row is not None
    found = connection.execute("SELECT name, schema FROM fleet").fetchone() if row[0] else None
    return ("", 0) if found is None else (found["name"], found["schema"])


@contextlib.contextmanager
def _exclusive(connection: PostgresConnection) -> Iterator[None]:
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
        connection.answer_within = _STATEMENT_SECONDS + ANSWER_SECONDS
        yield
