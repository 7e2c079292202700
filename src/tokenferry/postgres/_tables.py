import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from tokenferry.errors import Conflict, RefreshBusy, StorageFailed, TryLater
from tokenferry.fleet import (
    HOLD_OFF,
    HOST_SECONDS,
    LOCK_SECONDS,
    MOST_APART,
    AccountRecord,
    AttemptRecord,
    Epoch,
    HostKeys,
    Order,
)
from tokenferry.postgres._connections import ConnectionPool, PostgresConnection, PostgresRow
from tokenferry.postgres._migrations import check
from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.secret import HiddenBytes
from tokenferry.settings import StoreSettings
from tokenferry.stores import ProcessIdentity, refuse_twin

_TIMES: Final = b"SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s'; SET LOCAL synchronous_commit = "
_DURABLE: Final = _TIMES + b"on"  # whatever the database's default: a session may ask for more
_LAX: Final = _TIMES + b"off"
_RECORD: Final = b"""
INSERT INTO attempts (account, id, token, at, tries, state, presentations, pid, start, boot, host, alive_until)
SELECT name, %(id)s, %(token)s, %(at)s, %(tries)s, %(state)s, %(presentations)s, %(pid)s, %(start)s, %(boot)s, %(host)s,
    clock_timestamp() + make_interval(secs => %(seconds)s) FROM free
ON CONFLICT (account) DO UPDATE SET id = excluded.id, token = excluded.token, at = excluded.at, tries = excluded.tries,
    state = excluded.state, presentations = excluded.presentations, pid = excluded.pid, start = excluded.start,
    boot = excluded.boot, host = excluded.host, alive_until = excluded.alive_until, is_forgotten = false
"""
_BEGIN: Final = (
    b"""
WITH free AS (
    SELECT accounts.name FROM accounts, fleet
    WHERE accounts.name = %(name)s AND accounts.refresh = %(token)s AND fleet.started = pg_postmaster_start_time()
        AND fleet.epoch_since + make_interval(secs => %(hold_off)s) <= clock_timestamp()
        AND abs(extract(epoch FROM clock_timestamp())::double precision - %(host_now)s) <= %(most_apart)s
        AND (%(replaces)s::text IS NULL
            OR EXISTS (SELECT FROM attempts WHERE attempts.account = accounts.name AND attempts.id = %(replaces)s))
    FOR UPDATE OF accounts
)"""
    + _RECORD
    + b"WHERE attempts.id = %(replaces)s RETURNING account"
)
"""The row is locked first, here as in `_REPLACE`, so that the two are serial: else a late publication could remove the
attempt that is to be replaced while the new one is recorded under a snapshot that still shows the token it used up."""
_REASSERT: Final = (
    b"WITH free AS (SELECT name FROM accounts WHERE name = %(name)s AND refresh = %(token)s FOR UPDATE)"
    + _RECORD
    + b"WHERE attempts.token <> excluded.token OR attempts.presentations < excluded.presentations"
)
_INSERT: Final = b"""
INSERT INTO accounts (name, generation, refresh, body, epoch, added)
SELECT %(name)s, %(generation)s, %(refresh)s, %(body)s, fleet.epoch, revisions.number + 1 FROM fleet, revisions
WHERE revisions.name = 'accounts' ON CONFLICT DO NOTHING
"""
_REPLACE: Final = b"""
UPDATE accounts SET generation = %(generation)s, refresh = %(refresh)s, body = %(body)s,
    epoch = coalesce(nullif(%(epoch)s, 0), (SELECT epoch FROM fleet))
WHERE name = %(name)s AND generation = %(expected)s AND (%(presented)s::text IS NULL OR refresh = %(presented)s)
"""
_PUT_FORWARD: Final = b"""
UPDATE accounts SET generation = %(generation)s, refresh = %(refresh)s, body = %(body)s, epoch = %(epoch)s,
    added = %(added)s
WHERE name = %(name)s AND (epoch, added, generation) < (%(epoch)s, %(added)s, %(generation)s)
"""
_TAKE: Final = b"""
WITH held AS (SELECT program FROM locks WHERE name = %(name)s
        AND until BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => 2 * %(seconds)s)), taken AS (
    INSERT INTO locks (name, holder, program, until)
    SELECT %(name)s, %(holder)s, %(program)s, clock_timestamp() + make_interval(secs => %(seconds)s)
    WHERE NOT EXISTS (SELECT FROM held)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, program = excluded.program, until = excluded.until
    WHERE locks.until NOT BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => 2 * %(seconds)s)
    RETURNING holder
)
SELECT (SELECT holder FROM taken) AS holder, (SELECT program FROM held) AS program
"""
"""Who waits only reads: an insert that conflicts locks the row, and hundreds that wait would be serial. A lock that
ends too late was taken before the clock was set back, and its holder may be gone."""
_BEGIN_EPOCH: Final = b"""
UPDATE fleet SET epoch = epoch + (started <> pg_postmaster_start_time())::int, started = pg_postmaster_start_time(),
    epoch_since = clock_timestamp()
WHERE started <> pg_postmaster_start_time() OR epoch_since > clock_timestamp() + interval '1 minute'
"""
"""If the clock was set back since, the hold-off begins again: it would last until the clock has caught up."""
_EPOCH: Final = b"""
SELECT epoch, sealed_with, next_key, extract(epoch FROM clock_timestamp())::double precision AS now,
    CASE WHEN epoch_since = '-infinity' THEN 0
        ELSE greatest(0, %s - extract(epoch FROM clock_timestamp() - epoch_since)::double precision) END AS hold_off
FROM fleet
"""
_ADOPT: Final = b"""
UPDATE fleet SET sealed_with = next_key, next_key = NULL WHERE next_key = %(key)s AND NOT EXISTS (
    SELECT FROM hosts WHERE abs(extract(epoch FROM clock_timestamp() - seen_at)) < %(seconds)s
        AND NOT opens @> ARRAY[%(key)s::text]
)
"""


class PostgresTables:
    """The `Tables` of a fleet in PostgreSQL. Thread-safe; every method asks the server.

    With `settings` it is asked first, once, whether it is the fleet that they name: a copy of its database has its
    logins, too, and must not renew them. `now` is this host's clock, in seconds since 1970 UTC.
    """

    def __init__(
        self, pool: ConnectionPool, settings: StoreSettings | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self._pool = pool
        self._unchecked = settings
        self._now = now
        self._stamps: tuple[object, Mapping[str, Order]] = (None, {})

    @contextmanager
    def _transaction(self, begin: bytes = _DURABLE) -> Iterator[PostgresConnection]:
        with self._lease() as connection, connection.transaction():
            connection.execute(begin)
            yield connection

    @contextmanager
    def _lease(self) -> Iterator[PostgresConnection]:
        """A connection, each of whose statements is a transaction in one round trip."""
        try:
            if self._unchecked is not None:
                check(self._pool, self._unchecked)
                self._unchecked = None
            with self._pool.lease() as connection:
                yield connection
        except TryLater as fault:  # what waits to be published must go on trying
            failed = StorageFailed(str(fault))
            failed.for_clients = fault.for_clients
            raise failed from None

    def _row(self, statement: bytes, values: Mapping[str, Any]) -> PostgresRow | None:
        with self._lease() as connection:
            return connection.execute(statement, values).fetchone()

    def _change(self, statement: bytes, values: Mapping[str, Any]) -> bool:
        """Write, durably; return whether a row was changed."""
        with self._transaction() as connection:
            return connection.execute(statement, values).rowcount > 0

    def _change_account(self, statement: bytes, values: Mapping[str, Any]) -> bool:
        with self._transaction() as connection:
            if connection.execute(statement, values).rowcount == 0:
                return False
            connection.execute(b"UPDATE revisions SET number = number + 1 WHERE name = 'accounts'")
        with suppress(StorageFailed), self._lease() as connection:  # apart, so that no commit waits for it
            connection.execute(b"SELECT pg_notify('tokenferry', 'accounts')")
        return True

    # -- accounts

    def account(self, name: str) -> AccountRecord | None:
        return next(iter(self.accounts((name,))), None)

    def accounts(self, names: Collection[str]) -> Sequence[AccountRecord]:
        with self._lease() as connection:
            rows = connection.execute(
                b"SELECT name, generation, refresh, body, epoch, added FROM accounts WHERE name = ANY(%s)",
                (list(names),),
            ).fetchall()
        return [
            AccountRecord(name, generation, refresh, HiddenBytes(body), *order)
            for name, generation, refresh, body, *order in rows
        ]

    def names(self) -> list[str]:
        return sorted(self.stamps())

    def stamps(self) -> Mapping[str, Order]:
        with self._lease() as connection:
            row = connection.execute(
                b"SELECT number, epoch, pg_postmaster_start_time()::text AS started FROM revisions, fleet "
                b"WHERE revisions.name = 'accounts'"
            ).fetchone()
            revision = None if row is None else tuple(row)
            if revision is None or revision != self._stamps[0]:
                rows = connection.execute(b"SELECT name, epoch, added, generation FROM accounts").fetchall()
                self._stamps = revision, {name: (epoch, added, generation) for name, epoch, added, generation in rows}
        return self._stamps[1]

    def insert(self, record: AccountRecord) -> None:
        if not self._change_account(_INSERT, _values(record)):
            refuse_twin(record.name, self.names())
            raise Conflict(f"account {record.name!r} was added by another program; nothing was written")

    def replace(self, record: AccountRecord, expected: int, presented: str | None = None) -> bool:
        return self._change_account(_REPLACE, _values(record) | {"expected": expected, "presented": presented})

    def put_forward(self, record: AccountRecord) -> bool:
        return self._change_account(_PUT_FORWARD, _values(record))

    def remove(self, name: str, expected: int | None) -> bool:
        return self._change_account(
            b"DELETE FROM accounts WHERE name = %(name)s AND generation = coalesce(%(expected)s, generation)",
            {"name": name, "expected": expected},
        )

    # -- attempts

    def attempt(self, name: str) -> AttemptRecord | None:
        row = self._row(
            b"SELECT *, alive_until < clock_timestamp() AS is_lapsed FROM attempts WHERE account = %(name)s",
            {"name": name},
        )
        if row is None:
            return None
        process = ProcessIdentity(row["pid"], row["start"], row["boot"], row["host"])
        attempt = RefreshAttempt(row["id"], row["token"], row["at"], process, row["tries"], row["state"])
        return AttemptRecord(attempt, is_lapsed=row["is_lapsed"], is_forgotten=row["is_forgotten"])

    def begin(self, name: str, attempt: RefreshAttempt, replaces: str | None) -> None:
        values = _attempt_values(name, attempt) | {"replaces": replaces, "hold_off": HOLD_OFF}
        values |= {"host_now": self._now(), "most_apart": MOST_APART}
        if self._change(_BEGIN, values):
            return
        epoch = self.epoch()
        if epoch.hold_off > 0:
            raise RefreshBusy(
                f"account {name!r}: the database was restarted, so no refresh begins for {epoch.hold_off:.0f} s: "
                "what it may have lost is put back first",
                retry_after=epoch.hold_off,
            )
        if (apart := abs(epoch.now - self._now())) > MOST_APART:
            raise RefreshBusy(
                f"account {name!r}: the clocks of this host and of the database are {apart:.0f} s apart, so nothing is "
                "refreshed here; set the clock with: timedatectl"
            )
        raise Conflict(f"account {name!r}: another attempt to refresh it is on record; nothing was sent")

    def reassert(self, name: str, attempt: RefreshAttempt) -> None:
        self._change(_REASSERT, _attempt_values(name, attempt))

    def mark(self, name: str, attempt: str, state: AttemptState) -> None:
        self._change(
            b"UPDATE attempts SET state = %(state)s, "
            b"presentations = CASE WHEN %(state)s IN ('begun', 'closed') THEN tries - 1 ELSE tries END "
            b"WHERE account = %(name)s AND id = %(id)s",
            {"name": name, "id": attempt, "state": state},
        )

    def close(self, name: str, attempt: str) -> None:
        self._change(b"DELETE FROM attempts WHERE account = %(name)s AND id = %(id)s", {"name": name, "id": attempt})

    def forget_host(self, host: str) -> int:
        """Take every attempt of a host for that of a process that is gone; gives how many there are."""
        with self._transaction() as connection:
            connection.execute(b"DELETE FROM hosts WHERE name = %s", (host,))
            return connection.execute(
                b"UPDATE attempts SET is_forgotten = true WHERE split_part(host, ':', 1) = %s", (host,)
            ).rowcount

    # -- failures

    def failure(self, name: str) -> RefreshFailure | None:
        row = self._row(b"SELECT last FROM refresh_failures WHERE account = %(name)s", {"name": name})
        return None if row is None or row["last"] is None else RefreshFailure(**json.loads(row["last"]))

    def record_failure(self, name: str, failure: RefreshFailure | None) -> None:
        fields = RefreshFailure.__struct_fields__
        last = None if failure is None else json.dumps({field: getattr(failure, field) for field in fields})
        kind = "granted" if failure is None else failure.kind
        with self._transaction() as connection:
            connection.execute(b"INSERT INTO refresh_failures (account) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
            row = connection.execute(
                b"SELECT totals FROM refresh_failures WHERE account = %s FOR UPDATE", (name,)
            ).fetchone()
            totals = {} if row is None else json.loads(row["totals"])
            totals[kind] = totals.get(kind, 0) + 1
            connection.execute(
                b"UPDATE refresh_failures SET last = %s, totals = %s WHERE account = %s",
                (last, json.dumps(totals), name),
            )

    def totals(self, name: str) -> Mapping[str, int]:
        row = self._row(b"SELECT totals FROM refresh_failures WHERE account = %(name)s", {"name": name})
        return {} if row is None else json.loads(row["totals"])

    def forget(self, name: str) -> None:
        with self._transaction() as connection:
            connection.execute(b"DELETE FROM attempts WHERE account = %s", (name,))
            connection.execute(b"DELETE FROM refresh_failures WHERE account = %s", (name,))

    # -- locks and epochs

    def take(self, name: str, holder: str, program: str) -> str | None:
        values = {"name": name, "holder": holder, "program": program, "seconds": LOCK_SECONDS}
        row = self._row(_TAKE, values)
        if row is None or row["holder"] is not None:
            return None
        return str(row["program"] or "another process")

    def release(self, name: str, holder: str) -> None:
        with self._lease() as connection:
            connection.execute(b"DELETE FROM locks WHERE name = %s AND holder = %s", (name, holder))

    def renew(self, holders: Collection[str], attempts: Collection[str]) -> frozenset[str]:
        with self._transaction(_LAX) as connection:
            rows = connection.execute(
                b"UPDATE locks SET until = clock_timestamp() + make_interval(secs => %s) WHERE holder = ANY(%s) "
                b"RETURNING holder",
                (LOCK_SECONDS, list(holders)),
            ).fetchall()
            connection.execute(
                b"UPDATE attempts SET alive_until = clock_timestamp() + make_interval(secs => %s) WHERE id = ANY(%s)",
                (LOCK_SECONDS, list(attempts)),
            )
        return frozenset(row["holder"] for row in rows)

    def epoch(self) -> Epoch:
        with self._transaction() as connection:
            connection.execute(_BEGIN_EPOCH)
            row = connection.execute(_EPOCH, (HOLD_OFF,)).fetchone()
            assert row is not None
            return Epoch(row["epoch"], row["hold_off"], row["now"], row["sealed_with"], row["next_key"])

    # -- the sealing key

    def appear(self, host: HostKeys) -> None:
        with self._transaction(_LAX) as connection:
            connection.execute(
                b"INSERT INTO hosts (name, label, opens, seen_at) VALUES (%s, %s, %s, clock_timestamp()) "
                b"ON CONFLICT (name) DO UPDATE SET label = excluded.label, opens = excluded.opens, "
                b"seen_at = excluded.seen_at",
                (host.name, host.label, sorted(host.opens)),
            )

    def hosts(self) -> Sequence[HostKeys]:
        with self._lease() as connection:
            rows = connection.execute(
                b"SELECT name, label, opens FROM hosts WHERE abs(extract(epoch FROM clock_timestamp() - seen_at)) < %s "
                b"ORDER BY name",
                (HOST_SECONDS,),
            ).fetchall()
        return [HostKeys(name, label, frozenset(opens)) for name, label, opens in rows]

    def propose(self, key: str) -> None:
        self._change(b"UPDATE fleet SET next_key = %(key)s", {"key": key})

    def adopt(self, key: str) -> bool:
        return self._change(_ADOPT, {"key": key, "seconds": HOST_SECONDS})


def _values(record: AccountRecord) -> dict[str, Any]:
    return {field: getattr(record, field) for field in AccountRecord.__struct_fields__}


def _attempt_values(name: str, attempt: RefreshAttempt) -> dict[str, Any]:
    process = attempt.process
    return {
        "name": name,
        "id": attempt.id,
        "token": attempt.token,
        "at": attempt.at,
        "tries": attempt.tries,
        "state": attempt.state,
        "presentations": attempt.presentations,
        "pid": process.pid,
        "start": process.start,
        "boot": process.boot,
        "host": process.instance,
        "seconds": LOCK_SECONDS,
    }
