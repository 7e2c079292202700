import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from threading import Lock
from typing import Final, NamedTuple

from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnknownName, UsageError, nearest
from tokenferry.secret import Secret
from tokenferry.settings import NO_CAPS, Caps
from tokenferry.state._client_key import (
    NO_LABELS,
    PREFIXES,
    ClientKey,
    Role,
    check_expiry,
    check_key_name,
    client_key,
    write_budgets,
    write_caps,
    write_labels,
)
from tokenferry.state._database import Database, Row, Transaction
from tokenferry.state._rights import EVERYTHING, Rights, write_rights

logger = logging.getLogger(__name__)

INFERENCE_PREFIX: Final = PREFIXES["client"]
_RANDOM_BYTES: Final = 32
KEY_LENGTH: Final = len(INFERENCE_PREFIX) + 43
_POLL: Final = 0.5
_LIVE: Final = (
    "SELECT * FROM client_keys WHERE revoked_at IS NULL AND (lower(name) = lower(?) OR id = ?) ORDER BY id = ? LIMIT 1"
)


class _Known(NamedTuple):
    digest: bytes
    key: ClientKey


class ClientKeys:
    """The gateway's client keys, of which only the sha256 is stored. Thread-safe.

    A key is named by its name or its id. Methods that write wait for the disk, and raise `StorageFailed` and
    `CorruptFile`. `monotonic` gives seconds for the age of cached keys, and `now` the times to store.
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
        self._known: dict[bytes, _Known] = {}
        """The keys that aren't revoked, with the expired ones, by digest."""
        self._used: dict[str, int] = {}
        self._listed: tuple[int | None, Sequence[ClientKey]] = (None, ())
        self._look_again = monotonic() + _POLL
        self._revision: int | None = None
        self._newest: int | None = None
        """The number of the newest live key that was read."""
        self._is_behind = False
        self._reported: set[str] = set()
        self._reload()
        self._is_followed = database.follow("client_keys", self._reload, self._forget)

    def create(
        self,
        name: str,
        *,
        role: Role = "client",
        labels: Mapping[str, str] = NO_LABELS,
        expires_at: int | None = None,
        rights: Rights = EVERYTHING,
        budgets: Sequence[str] = (),
        caps: Caps = NO_CAPS,
        secret: Secret | None = None,
    ) -> tuple[ClientKey, Secret]:
        """Make a key, and give its secret, which can't be read again.

        Raises `UsageError` for an invalid name, label, expiry, right or budget, and `Conflict` for a name in use.
        """
        now = self._now()
        check_key_name(name)
        check_expiry(expires_at, now)
        _check_use(name, role, rights, budgets, caps)
        written = write_labels(labels), expires_at, write_rights(rights), write_budgets(budgets), write_caps(caps)
        if secret is None:
            secret = Secret(PREFIXES[role] + secrets.token_urlsafe(_RANDOM_BYTES))
        digest = bytes.fromhex(secret.sha256)
        row = (f"key_{secrets.token_hex(6)}", name, int(role == "admin"), role, digest, int(now))
        try:
            with self._database.transaction() as connection:
                (made,) = connection.execute(
                    "INSERT INTO client_keys (id, name, admin, role, digest, created_at, labels, expires_at, rights, "
                    "budgets, caps) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                    (*row, *written),
                ).fetchall()
        except Conflict:
            raise _in_use(name) from None
        self._reload()
        return client_key(made), secret

    def revoke(self, *names: str) -> tuple[ClientKey, ...]:
        """Revoke live keys for good: all of these, or none. Raises `UnknownName`, `StorageFailed`.

        The file is read back before the keys are reported as revoked.
        """
        with self._database.transaction() as connection:
            rows = {row["id"]: row for row in [_find(connection, name) for name in names]}
            for key in rows:
                connection.execute("UPDATE client_keys SET revoked_at = ? WHERE id = ?", (int(self._now()), key))
        self._reload()
        revoked = []
        for key, row in rows.items():
            found = self._database.read_back("SELECT * FROM client_keys WHERE id = ?", (key,))
            if not found or found[0]["revoked_at"] is None:
                name = client_key(row).name
                raise StorageFailed(
                    f"client key {name} is still good after it was revoked, so {self._database.name} is damaged or was "
                    "replaced; restart the gateways, then revoke it again"
                )
            revoked.append(client_key(found[0]))
        return tuple(revoked)

    def prune(self, *, spared: Secret | None = None) -> tuple[ClientKey, ...]:
        """Delete the revoked and expired keys, and give them. Raises `StorageFailed`.

        `spared` is kept: a key whose revocation is forgotten would be registered again.
        """
        digest = b"" if spared is None else bytes.fromhex(spared.sha256)
        with self._database.transaction() as connection:
            rows = connection.execute(
                "DELETE FROM client_keys WHERE (revoked_at IS NOT NULL OR expires_at <= ?) AND digest <> ? RETURNING *",
                (int(self._now()), digest),
            ).fetchall()
        self._reload()
        return tuple(map(client_key, rows))

    def rename(self, name: str, new: str) -> ClientKey:
        """Rename a live key. Raises `UsageError`, `UnknownName`, `Conflict`."""
        check_key_name(new)
        try:
            with self._database.transaction() as connection:
                found = _sound(_find(connection, name)).id
                (row,) = connection.execute(
                    "UPDATE client_keys SET name = ? WHERE id = ? RETURNING *", (new, found)
                ).fetchall()
        except Conflict:
            raise _in_use(new) from None
        self._reload()
        return client_key(row)

    def label(self, name: str, changes: Mapping[str, str | None]) -> ClientKey:
        """Set labels of a live key; remove those whose value is None. Raises `UsageError`, `UnknownName`."""
        with self._database.transaction() as connection:
            found = _sound(_find(connection, name))
            merged = {**found.labels, **changes}
            labels = {label: value for label, value in merged.items() if value is not None}
            (row,) = connection.execute(
                "UPDATE client_keys SET labels = ? WHERE id = ? RETURNING *", (write_labels(labels), found.id)
            ).fetchall()
        self._reload()
        return client_key(row)

    def restrict(self, name: str, change: Callable[[Rights], Rights]) -> ClientKey:
        """Replace a live key's rights by the result of `change`.

        Raises `UsageError`, `UnknownName`, and what `change` raises.
        """
        with self._database.transaction() as connection:
            found = _sound(_find(connection, name))
            rights = change(found.rights)
            _check_use(found.name, found.role, rights, found.budgets, found.caps)
            (row,) = connection.execute(
                "UPDATE client_keys SET rights = ? WHERE id = ? RETURNING *", (write_rights(rights), found.id)
            ).fetchall()
        self._reload()
        return client_key(row)

    def allot(self, name: str, budgets: Sequence[str]) -> ClientKey:
        """Replace the budgets of a live key. Raises `UsageError`, `UnknownName`."""
        written = write_budgets(budgets)
        with self._database.transaction() as connection:
            found = _sound(_find(connection, name))
            _check_use(found.name, found.role, found.rights, budgets, found.caps)
            (row,) = connection.execute(
                "UPDATE client_keys SET budgets = ? WHERE id = ? RETURNING *", (written, found.id)
            ).fetchall()
        self._reload()
        return client_key(row)

    def limit(self, name: str, change: Callable[[Caps], Caps]) -> ClientKey:
        """Replace a live key's caps by the result of `change`.

        Raises `UsageError`, `UnknownName`, and what `change` raises.
        """
        with self._database.transaction() as connection:
            found = _sound(_find(connection, name))
            caps = change(found.caps)
            _check_use(found.name, found.role, found.rights, found.budgets, caps)
            (row,) = connection.execute(
                "UPDATE client_keys SET caps = ? WHERE id = ? RETURNING *", (write_caps(caps), found.id)
            ).fetchall()
        self._reload()
        return client_key(row)

    def get(self, name: str) -> ClientKey:
        """Give the live key with this name or id, else the one that was revoked last. Raises `UnknownName`."""
        rows = self._database.rows(_LIVE, (name, name, name)) or self._database.rows(
            "SELECT * FROM client_keys WHERE lower(name) = lower(?) OR id = ? "
            "ORDER BY coalesce(revoked_at, 0) DESC LIMIT 1",
            (name, name),
        )
        if not rows:
            raise _unknown(name, [key.name for key in self.list() if key.revoked_at is None])
        return client_key(rows[0])

    def bound_to(self, account: str) -> tuple[str, ...]:
        """Give the names of the live keys that only this account may serve."""
        now = self._now()
        return tuple(
            key.name
            for key in self.list()
            if key.is_live(now) and (key.rights.pin == account or key.rights.accounts == (account,))
        )

    def list(self) -> "list[ClientKey]":
        """Give every key, with the revoked ones, oldest first."""
        return [client_key(row) for row in self._database.rows("SELECT * FROM client_keys ORDER BY created_at, number")]

    def listed(self) -> "Sequence[ClientKey]":
        """Give the same as `list`, and the same object until a key changes."""
        revision = self._database.revision("client_keys")
        if revision != self._listed[0]:
            self._listed = revision, self.list()
        return self._listed[1]

    def verify(self, presented: str) -> ClientKey | None:
        """Give the live key with this secret; None if it is unknown.

        An event loop may call it. A known key costs a look into a dict. Twice a second, and for each unknown key, the
        database is asked for changes, which takes a few microseconds; only after a change is the table read again. It
        never waits: while the database is unavailable, the last known keys count.
        """
        digest = _digest(presented)
        if digest is None:
            return None
        if self._monotonic() >= self._look_again:
            self._refresh()
        known = self._known.get(digest)
        if known is None and not self._is_followed:
            self._refresh()
            known = self._known.get(digest)
        now = self._now()
        if known is None or not hmac.compare_digest(known.digest, digest) or known.key.is_expired(now):
            return None
        self._used[known.key.id] = int(now)
        return known.key

    def expired(self, presented: str) -> ClientKey | None:
        """Give the expired key with this secret, unless it was revoked."""
        digest = _digest(presented)
        known = None if digest is None else self._known.get(digest)
        return known.key if known is not None and known.key.is_expired(self._now()) else None

    def is_sole(self) -> bool:
        """Tell whether this is the only live key with which inference may be requested."""
        now = self._now()
        live = 0
        for _, key in self._known.values():
            if key.role == "client" and not key.is_expired(now):
                live += 1
                if live > 1:
                    break
        return live == 1

    def revoked(self, secret: Secret) -> bool:
        """Tell whether this is the secret of a revoked or expired key."""
        digest = bytes.fromhex(secret.sha256)
        rows = self._database.rows("SELECT * FROM client_keys WHERE digest = ?", (digest,))
        return any(not client_key(row).is_live(self._now()) for row in rows)

    def record_use(self) -> None:
        """Record when keys were last used. It waits for the disk, so don't call it on an event loop."""
        used, self._used = self._used, {}
        rows = [(when, key, when) for key, when in list(used.items())]
        if not rows:
            return
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    # Several workers tell of the same key.
                    "UPDATE client_keys SET last_used_at = ? WHERE id = ? AND coalesce(last_used_at, 0) < ?",
                    rows,
                )
        except (StorageFailed, CorruptFile):
            self._used = used | self._used
            raise

    def look(self) -> None:
        """Read the keys again if another host has made one. It waits, so don't call it on an event loop."""
        ((newest,),) = self._database.rows("SELECT max(number) FROM client_keys WHERE revoked_at IS NULL")
        if newest != self._newest:
            self._reload()

    def is_away(self) -> bool:
        """Tell whether the database is unavailable, so that an unknown key may be valid."""
        return self._database.away_for() > 0

    def by_id(self, id_: str) -> ClientKey | None:
        """Give the key with this id. An event loop may call it if the table is followed."""
        if self._is_followed:
            return next((key for _, key in self._known.values() if key.id == id_), None)
        try:
            return self.get(id_)
        except UnknownName:
            return None

    def _forget(self) -> None:
        """Refuse every key, because each may have been revoked."""
        with self._reading:
            self._known = {}

    def _refresh(self) -> None:
        """Read the table if it has changed since the last time."""
        self._look_again = math.inf if self._is_followed else self._monotonic() + _POLL
        if self._is_followed:
            return
        try:
            if self._database.revision("client_keys") != self._revision:
                self._reload()
        except (StorageFailed, CorruptFile) as fault:
            if not self._is_behind:
                logger.warning("client keys count as they were known last: %s", fault)
            self._is_behind = True
        else:
            if self._is_behind:
                logger.warning("client keys can be read again")
            self._is_behind = False

    def _reload(self) -> None:
        with self._reading:
            revision = self._database.revision("client_keys")
            rows = self._database.rows("SELECT * FROM client_keys WHERE revoked_at IS NULL")
            known = [_Known(row["digest"], client_key(row)) for row in rows]
            self._known = {one.digest: one for one in known if one.key.fault is None}
            self._revision = revision
            self._newest = max((row["number"] for row in rows), default=None)
        for _, key in known:
            if key.fault is not None and key.id not in self._reported:
                self._reported.add(key.id)
                logger.warning("%s", damage(key))


def damage(key: ClientKey) -> str:
    """Say what is wrong with a key that has a fault, and how to fix it."""
    return (
        f"client key {key.name} grants no access, because {key.fault}, as if a newer tokenferry or a fault of the disk "
        f"wrote them; revoke it with: tokenferry key revoke {key.id}; and make another"
    )


def _sound(row: Row) -> ClientKey:
    """Give the key. Raises `CorruptFile` if it has a fault."""
    key = client_key(row)
    if key.fault is not None:
        raise CorruptFile(damage(key))
    return key


def _check_use(name: str, role: Role, rights: Rights, budgets: Sequence[str], caps: Caps) -> None:
    if role != "client" and (budgets or caps.is_limited or not rights.is_everything):
        article = "an" if role == "admin" else "a"
        what = "rights" if not rights.is_everything else "budgets" if budgets else "limits"
        raise UsageError(f"{name} is {article} {role} key, which opens no model or account; leave its {what} out")


def _digest(presented: str) -> bytes | None:
    """Give the sha256 of a text that has the form of a client key."""
    if len(presented) != KEY_LENGTH or not presented.isascii():
        return None
    return sha256(presented.encode("ascii")).digest()


def _find(connection: Transaction, name: str) -> Row:
    row: Row | None = connection.execute(_LIVE, (name, name, name)).fetchone()
    if row is None:
        live = connection.execute("SELECT name FROM client_keys WHERE revoked_at IS NULL").fetchall()
        raise _unknown(name, [one["name"] for one in live])
    return row


def _unknown(name: str, live: Sequence[str]) -> UnknownName:
    near = nearest(name, live)
    hint = f"; did you mean {near!r}?" if near else ""
    return UnknownName(f"no live client key is named {name[:80]!r}{hint} (see: tokenferry key list)")


def _in_use(name: str) -> Conflict:
    return Conflict(f"a client key named {name!r} exists; choose another name, or first: tokenferry key revoke {name}")
