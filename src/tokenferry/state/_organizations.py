from collections.abc import Mapping

from tokenferry.state._database import Database


class Organizations:
    """The organization of each account, as answers named it. Accounts of one organization share its limits.

    Thread-safe.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, str]:
        """Give the organizations by account. Raises `StorageFailed`."""
        rows = self._database.rows("SELECT account, organization FROM organizations")
        return {row["account"]: row["organization"] for row in rows}

    def put(self, account: str, organization: str) -> None:
        """Store the organization of an account. Raises `StorageFailed`."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO organizations (account, organization) VALUES (?, ?) "
                "ON CONFLICT (account) DO UPDATE SET organization = excluded.organization",
                (account, organization),
            )

    def forget(self, account: str) -> None:
        """Delete the organization of an account. Raises `StorageFailed`."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM organizations WHERE account = ?", (account,))
