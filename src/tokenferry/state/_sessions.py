import hmac
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.secret import Secret
from tokenferry.state._client_key import Role
from tokenferry.state._database import Database, Row, Transaction
from tokenferry.state._keys import ClientKeys

SignInWay: TypeAlias = Literal["key", "command", "proxy"]
"""`key`: a key was entered. `command`: `tokenferry dashboard` opened it. `proxy`: a trusted proxy named the user."""

_IDLE: Final = 12 * 3600
SESSION_LIFETIME: Final = 7 * 86_400
"""The longest life of a dashboard session, in seconds."""
_CODE_LIFETIME: Final = 60
_CODE_MEMORY: Final = 86_400
_SEEN: Final = 60
_MOST: Final = 1000
_BYTES: Final = 32
_LABEL_BYTES: Final = 10
_LABEL_LENGTH: Final = 13
_ROLES: Final = frozenset(get_args(Role))


class DashboardSession(Struct, frozen=True):
    """A person who is signed in at the dashboard. Times are seconds since 1970 UTC.

    `name` is the key's, the user's as the proxy gives it, or `dashboard`. `key` is the key's id; empty without a key.
    """

    id: str
    name: str
    role: Role
    way: SignInWay
    key: str
    address: str
    created_at: int
    seen_at: int
    expires_at: int

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


class DashboardSessions:
    """The sessions of the dashboard. Only the sha256 of each session's secret is stored. Thread-safe.

    A session ends after 12 hours without use, after seven days, and with its key. Methods that write wait for the disk,
    and raise `StorageFailed` and `CorruptFile`. `now` gives seconds since 1970 UTC.
    """

    def __init__(self, database: Database, keys: ClientKeys, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._known: dict[bytes, Row] = {}
        """The sessions by digest, if the table is followed."""
        self._is_followed = database.follow("sessions", self._reload)
        if self._is_followed:
            self._reload()

    def label(self) -> str:
        """The first label of the dashboard's host name: 13 random characters, made once for this home."""
        query = "SELECT label FROM dashboard_labels ORDER BY label LIMIT 1"
        if not (rows := self._database.rows(query)):
            made = b32encode(secrets.token_bytes(_LABEL_BYTES)).decode("ascii").lower()[:_LABEL_LENGTH]
            with self._database.transaction() as connection:
                if not connection.execute(query).fetchall():
                    connection.execute("INSERT INTO dashboard_labels (label) VALUES (?)", (made,))
                rows = connection.execute(query).fetchall()
        return str(rows[0]["label"])

    def begin(
        self, *, name: str, role: Role, way: SignInWay, key: str = "", address: str = ""
    ) -> tuple[DashboardSession, Secret]:
        """Begin a session, and give the value of its cookie, which can't be read again.

        Beyond 1000 sessions the oldest are ended.
        """
        secret = Secret(secrets.token_urlsafe(_BYTES))
        with self._database.transaction() as connection:
            row = self._insert(connection, secret, name=name, role=role, way=way, key=key, address=address)
        return _session(row), secret

    def find(self, secret: Secret) -> DashboardSession | None:
        """Give the session of this cookie; None if it is unknown or ended, or its key is no longer valid.

        An event loop may call it. Raises `StorageFailed`, `CorruptFile`.
        """
        digest = _digest(secret)
        if self._is_followed:
            known = self._known.get(digest)
            return None if known is None else self._living(known)
        rows = self._database.rows("SELECT * FROM sessions WHERE digest = ?", (digest,))
        return self._living(rows[0]) if rows else None

    def _reload(self) -> None:
        self._known = {row["digest"]: row for row in self._database.rows("SELECT * FROM sessions")}

    def seen(self, session: DashboardSession) -> None:
        """Record that the session is in use; written once a minute."""
        now = int(self._now())
        if now - session.seen_at >= _SEEN:
            with self._database.transaction() as connection:
                connection.execute("UPDATE sessions SET seen_at = ? WHERE id = ?", (now, session.id))

    def get(self, id: str) -> DashboardSession | None:  # noqa: A002  # as its field is called
        """Give the session with this id; None as `find` does."""
        rows = self._database.rows("SELECT * FROM sessions WHERE id = ?", (id,))
        return self._living(rows[0]) if rows else None

    def list(self) -> "list[DashboardSession]":
        """Give the present sessions, oldest first."""
        rows = self._database.rows("SELECT * FROM sessions ORDER BY number")
        return [session for row in rows if (session := self._living(row)) is not None]

    def end(self, id: str) -> bool:  # noqa: A002  # see above
        """End a session; tell whether it existed."""
        with self._database.transaction() as connection:
            return connection.execute("DELETE FROM sessions WHERE id = ?", (id,)).rowcount > 0

    def leave_notice(self, id: str, text: str) -> None:  # noqa: A002  # see above
        """Store a sentence that the session's next page shows."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE sessions SET notice = ? WHERE id = ?", (text, id))

    def take_notice(self, id: str) -> str:  # noqa: A002  # see above
        """Give the session's sentence once; empty without one."""
        rows = self._database.rows("SELECT notice FROM sessions WHERE id = ?", (id,))
        if not rows or not rows[0]["notice"]:
            return ""
        self.leave_notice(id, "")
        return str(rows[0]["notice"])

    def make_code(self, *, role: Role = "admin") -> Secret:
        """Give a code that begins one session within a minute. Only the home's owner can make one."""
        code, now = Secret(secrets.token_urlsafe(_BYTES)), int(self._now())
        row = (_digest(code), role, now + _CODE_LIFETIME)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM sign_in_codes WHERE expires_at <= ?", (now - _CODE_MEMORY,))
            connection.execute("INSERT INTO sign_in_codes (digest, role, expires_at) VALUES (?, ?, ?)", row)
        return code

    def redeem(self, code: Secret, *, address: str = "") -> tuple[DashboardSession, Secret] | None:
        """Begin the session that a code is for, once; None if it is unknown, expired or used.

        A code that is presented twice may be stolen, so the session that it began ends.
        """
        digest = _digest(code)
        if not self._database.rows("SELECT 1 FROM sign_in_codes WHERE digest = ?", (digest,)):
            return None  # writes nothing, because anyone may ask
        secret = Secret(secrets.token_urlsafe(_BYTES))
        with self._database.transaction() as connection:
            row = connection.execute("SELECT * FROM sign_in_codes WHERE digest = ?", (digest,)).fetchone()
            if row["session"] is not None:
                connection.execute("DELETE FROM sessions WHERE digest = ?", (row["session"],))
                return None
            if row["expires_at"] <= self._now():
                return None
            connection.execute("UPDATE sign_in_codes SET session = ? WHERE digest = ?", (_digest(secret), digest))
            made = self._insert(
                connection, secret, name="dashboard", role=row["role"], way="command", key="", address=address
            )
        session = self._living(made)
        return None if session is None else (session, secret)

    def was_used(self, code: Secret) -> bool:
        """Return whether a code has begun a session."""
        rows = self._database.rows("SELECT session FROM sign_in_codes WHERE digest = ?", (_digest(code),))
        return bool(rows) and rows[0]["session"] is not None

    def _insert(
        self, connection: Transaction, secret: Secret, *, name: str, role: str, way: str, key: str, address: str
    ) -> Row:
        now = int(self._now())
        connection.execute("DELETE FROM sessions WHERE expires_at <= ? OR seen_at <= ?", (now, now - _IDLE))
        connection.execute(
            "DELETE FROM sessions WHERE number <= (SELECT number FROM sessions ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (_MOST - 1,),
        )
        row: Row = connection.execute(
            "INSERT INTO sessions (digest, id, way, name, key, role, address, created_at, seen_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (
                *(_digest(secret), f"session_{secrets.token_hex(6)}", way, name, key, role, address),
                *(now, now, now + SESSION_LIFETIME),
            ),
        ).fetchall()[0]
        return row

    def _living(self, row: Row) -> DashboardSession | None:
        """Give the session of a row with its key's present name; None if it has ended or is invalid."""
        now, session = self._now(), _session(row)
        if session.role not in _ROLES or not session.created_at - _IDLE <= now < session.expires_at:
            return None
        if now >= session.seen_at + _IDLE:
            return None
        if not session.key:
            return None if session.way == "key" else session
        key = self._keys.by_id(session.key)
        if key is None:
            return None
        return replace(session, name=key.name) if key.is_live(now) and key.role == session.role else None


def csrf_token(secret: Secret) -> str:
    """Give the token that each form of the session must contain: HMAC-SHA256 with its secret, in hexadecimal."""
    return hmac.digest(secret.reveal().encode("ascii", "replace"), b"csrf", "sha256").hex()


def _digest(value: Secret) -> bytes:
    return bytes.fromhex(value.sha256)


def _session(row: Row) -> DashboardSession:
    fields = ("id", "name", "role", "way", "key", "address", "created_at", "seen_at", "expires_at")
    return DashboardSession(*(row[field] for field in fields))
