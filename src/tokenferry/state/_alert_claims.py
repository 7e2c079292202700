from tokenferry.state._database import Database


class AlertClaims:
    """Records sent alerts, so that only one of several processes sends each. Thread-safe; writes wait for the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, cause: str, now: float, until: float) -> bool:
        """Claim an alert until `until` (seconds since 1970 UTC). Gives False if another process has claimed it.

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
        """Let the alert be claimed again from `until` on. Raises `StorageFailed`, `CorruptFile`."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE alerts SET until = ? WHERE cause = ?", (int(until), cause))
