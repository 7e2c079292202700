"""The store of several hosts in PostgreSQL. Imported only if `[store] url` is set: `psycopg` is an extra."""

from tokenferry.postgres._connections import ConnectionPool, PostgresConnection, ServerFacts
from tokenferry.postgres._database import PostgresDatabase
from tokenferry.postgres._migrations import (
    SchemaStatus,
    check,
    fault_of,
    grant,
    initialise,
    migrations,
    schema_status,
    shared_login_secret,
    upgrade,
)
from tokenferry.postgres._rates import PostgresRates
from tokenferry.postgres._tables import PostgresTables
from tokenferry.postgres._watch import RevisionWatch

__all__ = [
    "ConnectionPool",
    "PostgresConnection",
    "PostgresDatabase",
    "PostgresRates",
    "PostgresTables",
    "RevisionWatch",
    "SchemaStatus",
    "ServerFacts",
    "check",
    "fault_of",
    "grant",
    "initialise",
    "migrations",
    "schema_status",
    "shared_login_secret",
    "upgrade",
]
