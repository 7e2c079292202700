import hmac
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Final, NamedTuple

from tokenferry.errors import Conflict, StorageFailed, UnknownName, UsageError
from tokenferry.secret import Secret
from tokenferry.state._database import Database
from tokenferry.stores import ACCOUNT_NAME

logger = logging.getLogger(__name__)

INFERENCE_PREFIX: Final = "tfk_"
ADMIN_PREFIX: Final = "tfa_"
_RANDOM_BYTES: Final = 32
KEY_LENGTH: Final = len(INFERENCE_PREFIX) + 43
_POLL: Final = 0.5


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that callers of the gateway present, without the secret itself. Times are seconds since 1970 UTC."""

    id: str
    name: str
    admin: bool
    created_at: int
    fingerprint: str
    last_used_at: int | None = None
    revoked_at: int | None = None


class _Live(NamedTuple):
    digest: bytes
    key: ClientKey


class ClientKeys:
    """The gateway's client keys: only their sha256 is kept. Thread-safe.

    `monotonic` and `now` give seconds: for the age of what is known, and for what is recorded.
    """

    def __init__(
        self,
        database: Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._monotonic = monotonic
        self._now = now
        self._reading = Lock()
        self._live: dict[bytes, _Live] = {}
        self._used: dict[str, int] = {}
        self._look_again = monotonic() + _POLL
        self._version: int | None = None
        self._reload()

    def create(self, name: str, *, admin: bool = False, secret: Secret | None = None) -> tuple[ClientKey, Secret]:
        """Make a key and give it this once. Raises `UsageError` for a bad name, `Conflict` for one in use."""
        if not ACCOUNT_NAME.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} can't be a client key's name: use 1 to 64 of A-Z a-z 0-9 . _ @ + -, "
                "a letter or digit first"
            )
        if secret is None:
            secret = Secret((ADMIN_PREFIX if admin else INFERENCE_PREFIX) + secrets.token_urlsafe(_RANDOM_BYTES))
        key = ClientKey(f"key_{secrets.token_hex(6)}", name, admin, int(self._now()), secret.fingerprint)
        row = (key.id, name, int(admin), bytes.fromhex(secret.sha256), key.created_at)
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT INTO client_keys (id, name, admin, digest, created_at) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.IntegrityError:
            raise Conflict(
                f"a client key named {name!r} exists; choose another name, or first: tokenferry key revoke {name}"
            ) from None
        self._reload()
        return key, secret

    def revoke(self, name_or_id: str) -> ClientKey:
        """Make a live key worthless for good. Raises `UnknownName`."""
        with self._database.transaction() as connection:
            found = connection.execute(
                "UPDATE client_keys SET revoked_at = ? WHERE id = ("
                " SELECT id FROM client_keys WHERE revoked_at IS NULL AND (name = ? COLLATE NOCASE OR id = ?)"
                " ORDER BY id = ? LIMIT 1)"
                " RETURNING *",
                (int(self._now()), name_or_id, name_or_id, name_or_id),
            ).fetchall()
        if not found:
            raise UnknownName(f"no live client key is named {name_or_id[:80]!r}; see: tokenferry key list")
        self._reload()
        return _key(found[0])

    def list(self) -> "list[ClientKey]":
        """Every key that ever was, revoked ones too, oldest first."""
        return [_key(row) for row in self._database.rows("SELECT * FROM client_keys ORDER BY created_at, rowid")]

    def verify(self, presented: str) -> ClientKey | None:
        """Give the live key this is, if it is one.

        Fit for an event loop: a known key costs a look into a dict, and twice a second, as an unknown one always does,
        the few microseconds of asking SQLite whether anything changed; only if so the table is read, in well under
        a millisecond. Nothing is waited for: while the database can't be asked, what was known last counts.
        """
        if len(presented) != KEY_LENGTH or not presented.isascii():
            return None
        digest = sha256(presented.encode("ascii")).digest()
        if self._monotonic() >= self._look_again:
            self._refresh()
        live = self._live.get(digest)
        if live is None:
            self._refresh()
            live = self._live.get(digest)
        if live is None or not hmac.compare_digest(live.digest, digest):
            return None
        self._used[live.key.id] = int(self._now())
        return live.key

    def is_sole(self) -> bool:
        """Tell whether there is exactly one live key that inference may be asked for with."""
        return sum(not live.key.admin for live in self._live.values()) == 1

    def revoked(self, secret: Secret) -> bool:
        """Tell whether this secret was a key once and is none any more."""
        digest = bytes.fromhex(secret.sha256)
        rows = self._database.rows("SELECT * FROM client_keys WHERE revoked_at IS NOT NULL")
        return any(hmac.compare_digest(row["digest"], digest) for row in rows)

    def record_use(self) -> None:
        """Write down when keys were last used. It waits for the disk: not for an event loop."""
        used, self._used = self._used, {}
        if not used:
            return
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE client_keys SET last_used_at = ? WHERE id = ?", [(when, key) for key, when in used.items()]
            )

    def _refresh(self) -> None:
        """Read the table if anybody changed the database since it was read last."""
        self._look_again = self._monotonic() + _POLL
        try:
            if self._database.version() != self._version:
                self._reload()
        except StorageFailed as fault:
            logger.warning("client keys are as they were known last: %s", fault)

    def _reload(self) -> None:
        with self._reading:
            version = self._database.version()
            rows = self._database.rows("SELECT * FROM client_keys WHERE revoked_at IS NULL")
            self._live = {row["digest"]: _Live(row["digest"], _key(row)) for row in rows}
            self._version = version


def _key(row: sqlite3.Row) -> ClientKey:
    return ClientKey(
        id=row["id"],
        name=row["name"],
        admin=bool(row["admin"]),
        created_at=row["created_at"],
        fingerprint=row["digest"].hex()[:8],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
