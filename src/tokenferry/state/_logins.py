import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tokenferry.secret import Secret
from tokenferry.state._database import Database, Row

_LIFETIME: Final = 600
_MOST: Final = 1000
_MOST_OF_ONE: Final = 100
_STATE_BYTES: Final = 32


class StartedLogin(Struct, frozen=True):
    """A login that was begun at a provider and isn't finished. Times are seconds since 1970 UTC.

    `redirect_uri` is the address to which the provider sends the code. `account` is the name to store the login under,
    if one was given. `client` is the id of the key that began it.
    """

    provider: str
    started_at: int
    expires_at: int
    redirect_uri: str = ""
    account: str | None = None
    client: str = ""


class StartedLogins:
    """The unfinished logins, each found by its `state` (RFC 6749, 10.12), of which only the sha256 is stored.

    Thread-safe. Any process with the file can finish one. Neither the PKCE verifier nor anything to derive it from is
    stored here. `now` gives seconds since 1970 UTC.
    """

    lifetime: Final = _LIFETIME
    """How many seconds a login stays valid."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def begin(
        self, provider: str, session: Secret, *, redirect_uri: str = "", account: str | None = None, client: str = ""
    ) -> Secret:
        """Give the `state` of a new login. It works once, for 10 minutes, and in this session only.

        Beyond 100 logins of a session, or 1000 in all, the oldest are deleted. The state is hexadecimal, because some
        pages change other characters. Raises `StorageFailed`, `CorruptFile`.
        """
        state = Secret(secrets.token_hex(_STATE_BYTES))
        now = int(self._now())
        owner = _digest(session)
        row = (_digest(state), owner, provider, now, now + _LIFETIME, redirect_uri, account, client)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM logins WHERE expires_at <= ?", (now,))
            connection.execute(
                "DELETE FROM logins WHERE session = ? AND number <="
                " (SELECT number FROM logins WHERE session = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (owner, owner, _MOST_OF_ONE - 1),
            )
            connection.execute(
                "DELETE FROM logins WHERE number <= (SELECT number FROM logins ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (_MOST - 1,),
            )
            connection.execute(
                "INSERT INTO logins (state, session, provider, started_at, expires_at, redirect_uri, account, client)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return state

    def find(self, state: Secret) -> StartedLogin | None:
        """Give the login with this state and keep it; None if it is unknown. Raises `StorageFailed`."""
        rows = self._database.rows("SELECT * FROM logins WHERE state = ?", (_digest(state),))
        return self._login(rows[0]) if rows else None

    def pending(self, session: Secret) -> list[StartedLogin]:
        """Give the unfinished logins of this session, oldest first. Raises `StorageFailed`."""
        rows = self._database.rows("SELECT * FROM logins WHERE session = ? ORDER BY number", (_digest(session),))
        return [login for row in rows if (login := self._login(row)) is not None]

    def take(self, state: Secret, session: Secret) -> StartedLogin | None:
        """Give the login with this `state` once; None if it is unknown, or of another session.

        Presenting a state uses it up. Raises `StorageFailed`, `CorruptFile`.
        """
        row = self._remove(state)
        if row is None or not hmac.compare_digest(row["session"], _digest(session)):
            return None
        return self._login(row)

    def bind(self, state: Secret, browser: Secret) -> StartedLogin | None:
        """Bind a login to the browser that a person uses at the provider, and give it; None if it is unknown.

        A login that is bound to another browser is deleted. Raises as `take` does.
        """
        if self.find(state) is None:
            return None
        with self._database.transaction() as connection:
            rows = connection.execute(
                "UPDATE logins SET browser = ? WHERE state = ? AND (browser IS NULL OR browser = ?) RETURNING *",
                (_digest(browser), _digest(state), _digest(browser)),
            ).fetchall()
            if not rows:
                connection.execute("DELETE FROM logins WHERE state = ?", (_digest(state),))
        return self._login(rows[0]) if rows else None

    def take_bound(self, state: Secret, browser: Secret) -> StartedLogin | None:
        """Give the login with this state once, if it is bound to this browser.

        In another browser the login is kept. Raises as `take` does.
        """
        rows = self._database.rows("SELECT browser FROM logins WHERE state = ?", (_digest(state),))
        if not rows or not hmac.compare_digest(rows[0]["browser"] or b"", _digest(browser)):
            return None
        row = self._remove(state)
        return None if row is None else self._login(row)

    def _remove(self, state: Secret) -> Row | None:
        """Delete and give the row. A missing one costs no write, because anyone may ask."""
        digest = _digest(state)
        if not self._database.rows("SELECT 1 FROM logins WHERE state = ?", (digest,)):
            return None
        with self._database.transaction() as connection:
            rows = connection.execute("DELETE FROM logins WHERE state = ? RETURNING *", (digest,)).fetchall()
        return rows[0] if rows else None

    def _login(self, row: Row) -> StartedLogin | None:
        """Give the login of a row; None if it has expired or the clock was set back."""
        if not row["started_at"] - _LIFETIME <= self._now() < row["expires_at"]:
            return None
        return StartedLogin(
            row["provider"],
            row["started_at"],
            row["expires_at"],
            row["redirect_uri"],
            row["account"],
            row["client"],
        )


def _digest(value: Secret) -> bytes:
    return bytes.fromhex(value.sha256)
