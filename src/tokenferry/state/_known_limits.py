import time
from collections.abc import Callable, Mapping
from threading import Lock

import msgspec

from tokenferry.limits import LimitState
from tokenferry.state._database import Database


class KnownLimits:
    """The limits of each account by the latest answer to any process. Thread-safe."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._reading = Lock()
        self._revision: int | None = None
        self._known: Mapping[str, LimitState] = {}
        self._is_followed = database.follow("limits", self._reload)
        if self._is_followed:
            self._reload()

    def all(self) -> Mapping[str, LimitState]:
        """Give the limits by account; the same mapping while nothing has changed. Raises `StorageFailed`."""
        if not self._is_followed and self._database.revision("limits") != self._revision:
            self._reload()
        return self._known

    def put(self, account: str, state: LimitState) -> None:
        """Store the limits of an account. Raises `StorageFailed`."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO limits (account, state, noted_at) VALUES (?, ?, ?) "
                "ON CONFLICT (account) DO UPDATE SET state = excluded.state, noted_at = excluded.noted_at",
                (account, msgspec.json.encode(state).decode(), int(self._now())),
            )

    def prune(self, before: float) -> None:
        """Delete the limits noted before a time (seconds since 1970 UTC)."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM limits WHERE noted_at < ?", (int(before),))

    def _reload(self) -> None:
        with self._reading:
            revision = self._database.revision("limits")
            rows = self._database.rows("SELECT account, state FROM limits")
            self._known = {row["account"]: state for row in rows if (state := _state(row["state"])) is not None}
            self._revision = revision


def _state(text: str) -> LimitState | None:
    """Read stored limits; None if another version wrote them and they can't be read."""
    try:
        return msgspec.json.decode(text, type=LimitState)
    except msgspec.DecodeError:
        return None
