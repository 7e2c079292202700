import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from tokenferry.state._database import Database

KEPT_DECISIONS: Final = 10_000
"""So many are kept, the latest ones."""


class Decision(Struct, frozen=True):
    """How a gateway dealt with one request. `at` is in seconds since 1970 UTC; `content` is JSON without secrets."""

    request_id: str
    at: int
    content: Mapping[str, Any]


class Decisions:
    """The latest decisions of this machine's gateways. Thread-safe."""

    def __init__(self, database: Database, *, kept: int = KEPT_DECISIONS) -> None:
        self._database = database
        self._kept = kept

    def add(self, decisions: Iterable[Decision]) -> None:
        """Write them down, and give up the oldest. Waits for the disk. Raises `StorageFailed`, `CorruptFile`."""
        rows = json.dumps([(one.request_id, one.at, json.dumps(dict(one.content))) for one in decisions])
        with self._database.transaction() as connection:
            # One statement: with one for each row the thread would have to wait for the event loop's as often.
            connection.execute(
                "INSERT INTO decisions (request_id, at, content) "
                "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') "
                "FROM json_each(?) ORDER BY key",
                (rows,),
            )
            connection.execute(
                "DELETE FROM decisions WHERE number <= (SELECT max(number) FROM decisions) - ?", (self._kept,)
            )

    def get(self, request_id: str) -> Decision | None:
        """Give the decision on this request, if it is kept. Raises `StorageFailed`, `CorruptFile`."""
        rows = self._database.rows("SELECT * FROM decisions WHERE request_id = ? LIMIT 1", (request_id,))
        return next(map(_decision, rows), None)

    def latest(self, count: int) -> list[Decision]:
        """Give the last ones, newest first. Raises `StorageFailed`, `CorruptFile`."""
        return [*map(_decision, self._database.rows("SELECT * FROM decisions ORDER BY number DESC LIMIT ?", (count,)))]

    def last_account_of(self, session: str) -> str | None:
        """Give the account that last served a session, if that is kept. Raises `StorageFailed`, `CorruptFile`."""
        rows = self._database.rows(
            "SELECT json_extract(content, '$.account') AS account FROM decisions "
            "WHERE json_extract(content, '$.session') = ? AND json_extract(content, '$.account') IS NOT NULL "
            "AND json_extract(content, '$.status') BETWEEN 200 AND 299 ORDER BY number DESC LIMIT 1",
            (session,),
        )
        return next((str(row["account"]) for row in rows), None)


def _decision(row: sqlite3.Row) -> Decision:
    return Decision(row["request_id"], row["at"], json.loads(row["content"]))
