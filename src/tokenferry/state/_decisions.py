import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from tokenferry.state._database import Database, Row, Value

MOST_DECISIONS: Final = 10_000
"""Older decisions are deleted."""
_COLUMNS: Final = ("request_id", "at", "session", "account", "status", "content")
_ROW: Final = f"({', '.join('?' * len(_COLUMNS))})"
_ROWS_A_STATEMENT: Final = 500


class Decision(Struct, frozen=True):
    """How a gateway dealt with one request. `at` is in seconds since 1970 UTC; `content` is JSON without secrets."""

    request_id: str
    at: int
    content: Mapping[str, Any]


class Decisions:
    """The latest decisions of this machine's gateways. Thread-safe."""

    def __init__(self, database: Database, *, most: int = MOST_DECISIONS) -> None:
        self._database = database
        self._most = most

    def add(self, decisions: Iterable[Decision]) -> None:
        """Store them, and delete the oldest. Waits for the disk. Raises `StorageFailed`, `CorruptFile`."""
        rows = [*map(_values, decisions)]
        with self._database.transaction() as connection:
            # Many rows a statement: with one for each the thread would have to wait for the event loop's as often.
            for some in (rows[at : at + _ROWS_A_STATEMENT] for at in range(0, len(rows), _ROWS_A_STATEMENT)):
                connection.execute(
                    f"INSERT INTO decisions ({', '.join(_COLUMNS)}) VALUES {', '.join([_ROW] * len(some))}",  # noqa: S608  # names of ours
                    [value for row in some for value in row],
                )
            connection.execute(
                "DELETE FROM decisions WHERE number <= (SELECT max(number) FROM decisions) - ?", (self._most,)
            )

    def get(self, request_id: str) -> Decision | None:
        """Give the decision on this request, if it is stored. Raises `StorageFailed`, `CorruptFile`."""
        rows = self._database.rows("SELECT * FROM decisions WHERE request_id = ? LIMIT 1", (request_id,))
        return next(map(_decision, rows), None)

    def latest(self, count: int) -> list[Decision]:
        """Give the last ones, newest first. Raises `StorageFailed`, `CorruptFile`."""
        return [*map(_decision, self._database.rows("SELECT * FROM decisions ORDER BY number DESC LIMIT ?", (count,)))]

    def last_account_of(self, session: str) -> str | None:
        """Give the account that last served a session, if that is stored. Raises `StorageFailed`, `CorruptFile`."""
        rows = self._database.rows(
            "SELECT account FROM decisions WHERE session = ? AND account IS NOT NULL AND status BETWEEN 200 AND 299 "
            "ORDER BY number DESC LIMIT 1",
            (session,),
        )
        return next((str(row["account"]) for row in rows), None)


def _values(decision: Decision) -> tuple[Value, ...]:
    content = decision.content
    found = (content.get("session"), content.get("account"), content.get("status"))
    return (decision.request_id, decision.at, *found, json.dumps(dict(content)))


def _decision(row: Row) -> Decision:
    return Decision(row["request_id"], row["at"], json.loads(row["content"]))
