import secrets
from collections.abc import Sequence
from typing import Any, Final

from tokenferry.postgres._connections import GLANCE_SECONDS, ConnectionPool, PostgresConnection
from tokenferry.rates import FleetRates, RateReport, Share, SubjectUse

_LIVES: Final = 20.0
"""Seconds for which a process counts that isn't heard of, with what it has under way.

As far in the future too: one that was heard of before the clock was set back counts no longer.
"""
_KEPT: Final = 86_400.0
_MINUTE: Final = 60.0
_BEGIN: Final = b"SET LOCAL statement_timeout = '2s'; SET LOCAL lock_timeout = '1s'; SET LOCAL synchronous_commit = off"
_SEE: Final = b"""
INSERT INTO rate_holders (id, seen_at) VALUES (%s, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at RETURNING xmax = 0 AS is_new
"""
_DROP_DEAD: Final = b"""
DELETE FROM rate_holders WHERE id IN (
    SELECT id FROM rate_holders WHERE abs(extract(epoch FROM clock_timestamp() - seen_at)) > %s FOR UPDATE SKIP LOCKED)
"""
_LIVING: Final = b"""
SELECT count(*) AS living, count(*) FILTER (WHERE id < %s) AS before FROM rate_holders
WHERE abs(extract(epoch FROM clock_timestamp() - seen_at)) <= %s
"""
_ADD: Final = b"""
INSERT INTO rates AS known (subject, requests, tokens, requests_rate, tokens_rate, at)
SELECT subject, requests, tokens, requests_rate, tokens_rate, clock_timestamp() FROM unnest(
    %s::text[], %s::double precision[], %s::double precision[], %s::double precision[], %s::double precision[]
) AS said (subject, requests, tokens, requests_rate, tokens_rate) ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET
    requests = greatest(greatest(known.requests - excluded.requests_rate
        * greatest(extract(epoch FROM clock_timestamp() - known.at), 0), 0) + excluded.requests, 0),
    tokens = greatest(greatest(known.tokens - excluded.tokens_rate
        * greatest(extract(epoch FROM clock_timestamp() - known.at), 0), 0) + excluded.tokens, 0),
    requests_rate = excluded.requests_rate, tokens_rate = excluded.tokens_rate,
    at = clock_timestamp()
RETURNING subject, requests, tokens
"""
"""It locks the rows of its subjects in a fixed order, so exchanges about one subject are serial."""
_PUT_SLOTS: Final = b"""
INSERT INTO rate_slots (holder, subject, busy) SELECT %s, * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT (subject, holder) DO UPDATE SET busy = excluded.busy
"""
_SLOTS: Final = b"""
SELECT subject, sum(busy)::bigint AS busy FROM rate_slots JOIN rate_holders ON id = holder
WHERE subject = ANY(%s) AND holder <> %s AND abs(extract(epoch FROM clock_timestamp() - seen_at)) <= %s GROUP BY subject
"""


class PostgresRates:
    """The `SharedRates` of gateways over one PostgreSQL, by its clock. Each method is one transaction."""

    def __init__(self, connections: ConnectionPool) -> None:
        self._connections = connections
        self._holder = secrets.token_hex(8)

    def exchange(self, reports: Sequence[RateReport]) -> FleetRates:
        with self._connections.lease(GLANCE_SECONDS) as connection, connection.transaction():
            connection.execute(_BEGIN)
            share = self._share(connection)
            return FleetRates(share, self._uses(connection, reports) if reports else {})

    def leave(self) -> None:
        with self._connections.lease(GLANCE_SECONDS) as connection:
            connection.execute(b"DELETE FROM rate_holders WHERE id = %s", (self._holder,))

    def close(self) -> None:
        self._connections.close()

    def _share(self, connection: PostgresConnection) -> Share:
        if _one(connection, _SEE, (self._holder,))["is_new"]:
            connection.execute(b"DELETE FROM rates WHERE at < clock_timestamp() - make_interval(secs => %s)", (_KEPT,))
        connection.execute(_DROP_DEAD, (_LIVES,))
        row = _one(connection, _LIVING, (self._holder, _LIVES))
        return Share(row["before"], row["living"])

    def _uses(self, connection: PostgresConnection, reports: Sequence[RateReport]) -> dict[str, SubjectUse]:
        subjects = [one.subject for one in reports]
        values = (
            subjects,
            [one.requests for one in reports],
            [one.tokens for one in reports],
            [one.caps.requests_per_minute / _MINUTE for one in reports],
            [one.caps.tokens_per_minute / _MINUTE for one in reports],
        )
        owed = connection.execute(_ADD, values).fetchall()
        connection.execute(_PUT_SLOTS, (self._holder, subjects, [one.busy for one in reports]))
        # A statement of its own, so that it sees what was committed while the first one waited for a row.
        rows = connection.execute(_SLOTS, (subjects, self._holder, _LIVES)).fetchall()
        busy = {row["subject"]: row["busy"] for row in rows}
        return {row["subject"]: SubjectUse(row["requests"], row["tokens"], busy.get(row["subject"], 0)) for row in owed}


def _one(connection: PostgresConnection, statement: bytes, values: tuple[Any, ...]) -> Any:
    row = connection.execute(statement, values).fetchone()
    assert row is not None
    return row
