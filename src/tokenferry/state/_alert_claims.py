from tokenferry.state._database import Database


class AlertClaims:
    """Alerts that were sent, so that of several processes one sends each. Thread-safe; it waits for the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, cause: str, now: float, until: float) -> bool:
        """Whether the caller sends the alert; no other process does before `until` (seconds since 1970 UTC).

        Raises `StorageFailed`, `CorruptFile`.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM alerts WHERE until <= ?", (int(now),))
            return (
                connection.execute(
                    "INSERT INTO alerts (cause, until) VALUES (?, ?) ON CONFLICT DO NOTHING", (cause, int(until))
                ).rowcount
                == 1
            )

    def set_end(self, cause: str, until: float) -> None:
        """Allow the alert again from then on. Raises `StorageFailed`, `CorruptFile`."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE alerts SET until = ? WHERE cause = ?", (int(until), cause))
