"""Copies keys, cooldowns and organizations from one state into another: a file, or a shared database."""

from typing import Final

from msgspec import Struct

from tokenferry.errors import StorageFailed
from tokenferry.state._client_key import client_key
from tokenferry.state._database import Database, Row, Transaction
from tokenferry.state._local_key import is_local_key
from tokenferry.state._state import State

_KEY_COLUMNS: Final = (
    *("id", "name", "admin", "digest", "created_at", "last_used_at", "revoked_at", "labels", "expires_at", "rights"),
    *("role", "budgets", "caps"),
)
_REVOKE: Final = "UPDATE client_keys SET revoked_at = ? WHERE id = ? AND digest = ? AND revoked_at IS NULL"
_COLUMNS: Final = {
    "cooldowns": ("kind", "name", "family", "cause", "source", "until", "evidence", "noted_at"),
    "organizations": ("account", "organization"),
}


class StateCopy(Struct, frozen=True):
    """The result of a copy."""

    keys: int
    cooldowns: int
    present: int
    """Client keys that the target had already."""
    left: tuple[str, ...]
    """Names of client keys that belong to another key in the target. Rename one of each two, and copy again."""


def copy_state(source: State, target: State) -> StateCopy:
    """Copy client keys with their digests, cooldowns and organizations. Raises `StorageFailed`, `CorruptFile`.

    What the target has already is kept, so an interrupted copy can be repeated. A key that is revoked in the source
    becomes revoked in the target, too. A machine's local key isn't copied, because each machine makes its own. The copy
    is read back before it counts as done.
    """
    rows = source.database.rows("SELECT * FROM client_keys ORDER BY number")
    keys = [row for row in rows if not is_local_key(client_key(row))]
    with target.database.transaction() as transaction:
        made = sum(_insert(transaction, "client_keys", _KEY_COLUMNS, row) for row in keys)
        for row in keys:
            if row["revoked_at"] is not None:
                transaction.execute(_REVOKE, [row[name] for name in ("revoked_at", "id", "digest")])
        others = {
            table: sum(
                _insert(transaction, table, columns, row)
                for row in source.database.rows(f"SELECT * FROM {table}")  # noqa: S608  # names of ours
            )
            for table, columns in _COLUMNS.items()
        }
    there = _digests(target.database)
    left = [row for row in keys if there.get(row["id"]) is None]
    if any(there.get(row["id"]) not in {row["digest"], None} for row in keys):
        raise StorageFailed(f"{target.database.name} has other client keys under the same ids; use an empty one")
    return StateCopy(made, others["cooldowns"], len(keys) - made - len(left), tuple(row["name"] for row in left))


def _digests(database: Database) -> dict[str, bytes]:
    return {row["id"]: row["digest"] for row in database.read_back("SELECT id, digest FROM client_keys")}


def _insert(transaction: Transaction, table: str, columns: tuple[str, ...], row: Row) -> int:
    places = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608  # names of ours
    return transaction.execute(statement, [row[name] for name in columns]).rowcount
