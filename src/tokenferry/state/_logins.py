import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from tokenferry.secret import Secret
from tokenferry.state._database import Database

_LIFETIME: Final = 600
_MOST: Final = 1000
_STATE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Login:
    """A login that was begun at a provider and is not finished. Times are seconds since 1970 UTC."""

    provider: str
    started_at: int
    expires_at: int


class Logins:
    """The logins under way, each known by its `state` (RFC 6749, 10.12), of which only the sha256 is kept. Thread-safe.

    The PKCE verifier is not here: it stays in the memory of the process that began the login. `now` gives seconds since
    1970 UTC.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def begin(self, provider: str, session: Secret) -> Secret:
        """Give the `state` of a new login, good once, for 10 minutes, and in this session alone.

        Of more than 1000 logins the oldest are given up. Raises `StorageFailed`, `CorruptFile`.
        """
        state = Secret(secrets.token_urlsafe(_STATE_BYTES))
        now = int(self._now())
        row = (_digest(state.reveal()), _digest(session.reveal()), provider, now, now + _LIFETIME)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM logins WHERE expires_at <= ?", (now,))
            connection.execute(
                "DELETE FROM logins WHERE state IN (SELECT state FROM logins ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (_MOST - 1,),
            )
            connection.execute("INSERT INTO logins VALUES (?, ?, ?, ?, ?)", row)
        return state

    def take(self, state: str, session: Secret) -> Login | None:
        """Give the login that this `state` was made for, once; None if there is none, or it is another session's.

        Whoever presents a state has used it up. Raises `StorageFailed`, `CorruptFile`.
        """
        with self._database.transaction() as connection:
            rows = connection.execute("DELETE FROM logins WHERE state = ? RETURNING *", (_digest(state),)).fetchall()
        for row in rows:
            is_bound = hmac.compare_digest(row["session"], _digest(session.reveal()))
            if is_bound and row["started_at"] - _LIFETIME <= self._now() < row["expires_at"]:
                return Login(row["provider"], row["started_at"], row["expires_at"])
        return None


def _digest(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogatepass")).digest()
