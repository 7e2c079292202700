"""All SQL of the ledger. The statements run on every engine; the tables here are SQLite's."""

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from tokenferry.state import BulkInsert, Schema

_SUMS_TABLE: Final = """
CREATE TABLE {name} (
    period INTEGER NOT NULL, key INTEGER NOT NULL, account INTEGER NOT NULL, provider INTEGER NOT NULL,
    model INTEGER NOT NULL, billing TEXT NOT NULL,
    requests INTEGER NOT NULL, side_requests INTEGER NOT NULL, errors INTEGER NOT NULL,
    uncounted INTEGER NOT NULL, estimated INTEGER NOT NULL, unpriced INTEGER NOT NULL,
    input INTEGER NOT NULL, output INTEGER NOT NULL, cache_read INTEGER NOT NULL,
    write_5m INTEGER NOT NULL, write_1h INTEGER NOT NULL, thinking INTEGER NOT NULL, searches INTEGER NOT NULL,
    cost_micros INTEGER NOT NULL, unpriced_micros INTEGER NOT NULL,
    ms INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
    PRIMARY KEY (period, key, account, provider, model, billing)
) STRICT, WITHOUT ROWID;
"""
"""A table of sums; a period is an hour or a day since 1970."""

SLOW: Final = "coalesce(first_ms, ms) >= 10000"
"""The condition of slow requests: at least so many milliseconds until the first byte."""
_MIGRATIONS: Final = (
    f"""
    CREATE TABLE names (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        label TEXT NOT NULL,
        day INTEGER NOT NULL,
        UNIQUE (kind, value)
    ) STRICT;
    CREATE TABLE prices (
        id INTEGER PRIMARY KEY,
        vendor TEXT NOT NULL,
        model TEXT NOT NULL,
        since TEXT NOT NULL,
        source TEXT NOT NULL,
        rates TEXT NOT NULL,
        UNIQUE (vendor, model, since, source, rates)
    ) STRICT;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        key INTEGER NOT NULL,
        account INTEGER NOT NULL,
        provider INTEGER NOT NULL,
        model INTEGER NOT NULL,
        asked INTEGER NOT NULL,
        session INTEGER NOT NULL,
        agent INTEGER NOT NULL,
        parent INTEGER NOT NULL,
        side INTEGER NOT NULL,
        status INTEGER NOT NULL,
        error INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        input INTEGER,
        output INTEGER,
        cache_read INTEGER,
        write_5m INTEGER,
        write_1h INTEGER,
        thinking INTEGER,
        searches INTEGER,
        speed INTEGER NOT NULL,
        tier INTEGER NOT NULL,
        geo INTEGER NOT NULL,
        others TEXT,
        estimated INTEGER NOT NULL,
        cost_micros INTEGER NOT NULL,
        price INTEGER NOT NULL,
        billing TEXT NOT NULL,
        first_ms INTEGER,
        ms INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX requests_at ON requests (at_ms, request_id);
    CREATE INDEX requests_session ON requests (session, at_ms) WHERE session > 0;
    CREATE INDEX requests_failed ON requests (at_ms) WHERE error > 0;
    {_SUMS_TABLE.format(name="hours")}
    {_SUMS_TABLE.format(name="days")}
    CREATE TABLE windows (
        account INTEGER NOT NULL,
        name INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        used_ppm INTEGER NOT NULL,
        reset_ms INTEGER NOT NULL,
        status TEXT NOT NULL,
        PRIMARY KEY (account, name, at_ms)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE revisions (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
    INSERT INTO revisions VALUES ('names', 0), ('retention', 0);
    """,  # noqa: S608  # names of ours
    """
    CREATE TABLE holders (id TEXT PRIMARY KEY, seen_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE slices (
        holder TEXT NOT NULL,
        budget TEXT NOT NULL,
        start INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (holder, budget, start)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE crossings (
        budget TEXT NOT NULL,
        start INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        percent INTEGER NOT NULL,
        end INTEGER NOT NULL,
        PRIMARY KEY (budget, start, amount, percent)
    ) STRICT, WITHOUT ROWID;
    """,
    # The index includes the columns of ORDER BY, or SQLite would scan the index of all requests.
    f"""
    DROP INDEX requests_failed;
    CREATE INDEX requests_failed ON requests (at_ms, request_id) WHERE error > 0;
    CREATE INDEX requests_slow ON requests (at_ms, request_id) WHERE {SLOW};
    """,
)

LEDGER_SCHEMA: Final = Schema(
    _MIGRATIONS,
    # auto_vacuum must be set in an empty file. A power failure may lose the last second.
    pragmas=("auto_vacuum = INCREMENTAL", "synchronous = NORMAL", "temp_store = MEMORY"),
    cure="and a new one is begun",
)

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

COLUMNS: Final = (
    *("key", "account", "provider", "model", "asked", "session", "agent", "parent", "error", "speed", "tier", "geo"),
    *("request_id", "side", "status", "attempts", "input", "output", "cache_read", "write_5m", "write_1h"),
    *("thinking", "searches", "estimated", "billing", "bytes_in", "bytes_out"),
    *("at_ms", "others", "cost_micros", "price", "first_ms", "ms"),
)
"""The columns of a request, in the order of its values."""

DIMENSIONS: Final = ("key", "account", "provider", "model", "billing")

_UNPRICED: Final = "price = 0 AND cost_micros > 0"
ERRORS: Final = "CASE WHEN side = 0 AND error > 0 THEN 1 ELSE 0 END"
_SUMS: Final = {
    "requests": "1 - side",
    "side_requests": "side",
    "errors": ERRORS,
    "uncounted": (
        "CASE WHEN side = 0 AND input IS NULL AND output IS NULL AND status BETWEEN 200 AND 299 THEN 1 ELSE 0 END"
    ),
    "estimated": "estimated",
    "unpriced": f"CASE WHEN {_UNPRICED} THEN 1 ELSE 0 END",
    **{
        name: f"coalesce({name}, 0)"
        for name in ("input", "output", "cache_read", "write_5m", "write_1h", "thinking", "searches")
    },
    "cost_micros": "cost_micros",
    "unpriced_micros": f"CASE WHEN {_UNPRICED} THEN cost_micros ELSE 0 END",
    **{name: name for name in ("ms", "bytes_in", "bytes_out")},
}
"""The sums, and the expression of a row of `requests` for each."""
SUMS: Final = tuple(_SUMS)

ABSENT: Final = -1
"""A missing number in the values of a row; a missing text is an empty one.

sqlite3 searches an adapter for each None and bool, which takes longer than writing the value.
"""
_NUMBERS: Final = ("input", "output", "cache_read", "write_5m", "write_1h", "thinking", "searches", "first_ms")
_TEXTS: Final = ("request_id", "billing", "others")
_PLACES: Final = {"others": "nullif(?, '')", **dict.fromkeys(_NUMBERS, f"nullif(?, {ABSENT})")}
INSERT_REQUESTS: Final = BulkInsert(
    "requests",
    tuple((name, "TEXT" if name in _TEXTS else "BIGINT", _PLACES.get(name, "?")) for name in COLUMNS),
    "ON CONFLICT (at_ms, request_id) DO NOTHING",
)
"""A request that exists already is skipped.

Request ids are random: an index of them alone would write a page per row.
"""
_KEY: Final = ", ".join(("period", *DIMENSIONS))


# One scan of the rows, then both tables from its few groups.
_FRESH: Final = f"{_KEY}, {', '.join(SUMS)}"
TABLES: Final = ("hours", "days")


def _upsert(table: str) -> str:
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in SUMS)
    return f"ON CONFLICT ({_KEY}) DO UPDATE SET {added}"


_OF_DAYS: Final = (
    f"period / {DAY_MS // HOUR_MS}, {', '.join((*DIMENSIONS, *(f'sum({name})' for name in SUMS)))} "  # names of ours
    f"FROM fresh WHERE true GROUP BY 1, {', '.join(DIMENSIONS)}"
)
ROLL_UP: Final = (
    f"INSERT INTO hours ({_FRESH}) SELECT {_FRESH} FROM fresh WHERE true {_upsert('hours')}",  # noqa: S608  # names of ours
    f"INSERT INTO days ({_FRESH}) SELECT {_OF_DAYS} {_upsert('days')}",  # names of ours
    "DELETE FROM fresh",
)
"""Add the result of `sum_up` to the sums by hour and day."""
MAKE_FRESH: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS fresh (period BIGINT, key BIGINT, account BIGINT, provider BIGINT, model BIGINT, "
    f"billing TEXT, {', '.join(f'{name} BIGINT' for name in SUMS)})"
)
"""Run before `sum_up`. The table is visible only to the connection."""


def sum_up(where: str, *, sign: Literal["", "-"] = "") -> str:
    """Sum up rows by hour. With a sign, they are subtracted from the sums."""
    sums = ", ".join(f"{sign}sum({value})" for value in _SUMS.values())
    dimensions = ", ".join(DIMENSIONS)
    return (
        f"INSERT INTO fresh ({_FRESH}) SELECT at_ms / {HOUR_MS}, {dimensions}, {sums} "  # noqa: S608  # names of ours
        f"FROM requests WHERE {where} GROUP BY 1, {dimensions}"
    )


def all_sums(table: str) -> str:
    """The sums of every period up to one."""
    return f"SELECT {_FRESH} FROM {table} WHERE period <= ?"  # noqa: S608  # names of ours


def request_sums(milliseconds: int) -> str:
    """What the requests before a time amount to by periods of so many milliseconds, in the columns of `all_sums`."""
    dimensions = ", ".join(DIMENSIONS)
    sums = ", ".join(f"sum({value})" for value in _SUMS.values())
    return (
        f"SELECT at_ms / {milliseconds}, {dimensions}, {sums} FROM requests WHERE at_ms < ? "  # noqa: S608  # names of ours
        f"GROUP BY 1, {dimensions}"
    )


def add_sums(table: str) -> str:
    """Add to the sums of one period."""
    places = ", ".join("?" * (1 + len(DIMENSIONS) + len(SUMS)))
    return f"INSERT INTO {table} ({_FRESH}) VALUES ({places}) {_upsert(table)}"  # noqa: S608  # names of ours


BETWEEN: Final = "id > ? AND id <= ?"
SUM_UP: Final = sum_up(BETWEEN)

LAST_ID: Final = "SELECT coalesce(max(id), 0) FROM requests"
UPSERT_NAME: Final = (
    "INSERT INTO names (kind, value, label, day) VALUES (?, ?, ?, ?) ON CONFLICT (kind, value) "
    "DO UPDATE SET label = excluded.label, "
    "day = CASE WHEN excluded.day > names.day THEN excluded.day ELSE names.day END RETURNING id"
)
COPY_NAME: Final = (
    "INSERT INTO names (kind, value, label, day) VALUES (?, ?, ?, ?) ON CONFLICT (kind, value) "
    "DO UPDATE SET label = CASE WHEN excluded.day > names.day THEN excluded.label ELSE names.label END, "
    "day = CASE WHEN excluded.day > names.day THEN excluded.day ELSE names.day END RETURNING id"
)
"""The later label stays."""
NAME: Final = "SELECT id FROM names WHERE kind = ? AND value = ?"
COUNT_NAMES: Final = "SELECT count(*) FROM names WHERE kind = ?"
INSERT_PRICE: Final = (
    "INSERT INTO prices (vendor, model, since, source, rates) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
PRICE: Final = "SELECT id FROM prices WHERE vendor = ? AND model = ? AND since = ? AND source = ? AND rates = ?"
INSERT_WINDOW: Final = (
    "INSERT INTO windows (account, name, at_ms, used_ppm, reset_ms, status) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (account, name, at_ms) DO UPDATE "
    "SET used_ppm = excluded.used_ppm, reset_ms = excluded.reset_ms, status = excluded.status"
)
NAMES_REVISION: Final = "SELECT number FROM revisions WHERE name = 'names'"
REVISE_NAMES: Final = "UPDATE revisions SET number = ? WHERE name = 'names'"
CLAIM_RETENTION: Final = "UPDATE revisions SET number = ? WHERE name = 'retention' AND (number <= ? OR number > ?)"
"""Its parameters are now, the latest time of the previous run, and now again, in seconds."""

DELETE_OLD_REQUESTS: Final = (
    "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"
)
DELETE_OLD_HOURS: Final = "DELETE FROM hours WHERE period < ?"
DELETE_OLD_WINDOWS: Final = "DELETE FROM windows WHERE at_ms < ?"
DELETE_OLD_NAMES: Final = "DELETE FROM names WHERE kind IN ('session', 'agent', 'word') AND day < ?"
COUNT_OLD: Final = "SELECT count(*) FROM (SELECT 1 FROM requests WHERE at_ms < ? LIMIT 1000000) AS old"

_NAMED: Final = ("provider", "model", "asked", "speed", "tier", "geo")
TO_REPRICE: Final = (
    "SELECT requests.id, at_ms, input, output, cache_read, write_5m, write_1h, searches, others, cost_micros, "  # noqa: S608  # names of ours
    + ", ".join(f"coalesce({name}.value, '') AS {name}" for name in _NAMED)
    + " FROM requests "
    + " ".join(f"LEFT JOIN names AS {name} ON {name}.id = requests.{name}" for name in _NAMED)
    + " WHERE requests.id > ? AND at_ms >= ? ORDER BY requests.id LIMIT ?"
)
REPRICE: Final = "UPDATE requests SET cost_micros = ?, price = ?, model = ? WHERE id = ?"


def numbers(found: Iterable[int]) -> str:
    """Give the list for `IN`. Only SQLite accepts an empty one."""
    return ", ".join(map(str, found)) or "-1"


FIND_NAMES: Final = "SELECT id FROM names WHERE kind = ? AND (value = ? OR label = ?)"


def erase(column: str) -> tuple[str, ...]:
    """Give statements that delete the rows of a key or session, and its name. Each has its number as parameter."""
    sums = [f"DELETE FROM {table} WHERE key = ?" for table in TABLES] if column == "key" else []  # noqa: S608  # names of ours
    names = [
        f"DELETE FROM names WHERE id IN (SELECT {name} FROM requests WHERE {column} = ?)"  # noqa: S608  # names of ours
        for name in ("session", "agent", "parent")
    ]
    return (*names, f"DELETE FROM requests WHERE {column} = ?", *sums, "DELETE FROM names WHERE id = ?")  # noqa: S608  # names of ours


EMPTY_SUMS: Final = tuple(
    f"DELETE FROM {table} WHERE requests = 0 AND side_requests = 0"  # noqa: S608  # names of ours
    for table in TABLES
)


Part: TypeAlias = tuple[int, int, int, int]
"""A part of a period: the period's number, start, exclusive end, and 1, or -1 to subtract the part."""


def totals(source: str, parts: list[Part], by: tuple[str, ...], where: str = "") -> str:
    """Give a query for the sums of each period and group, by sign. Parts are in the unit of `source`.

    `source` is `requests`, `hours` or `days`. Groups without a name have the number 0.
    """
    values = ", ".join(map(str, parts))
    place = "at_ms" if source == "requests" else "period"
    sums = _SUMS if source == "requests" else dict(zip(SUMS, SUMS, strict=True))
    columns = ", ".join(f"coalesce(sum({value}), 0) AS {name}" for name, value in sums.items())
    groups = "".join(f", {name}" for name in by)
    return (
        f"WITH periods (number, start, stop, sign) AS (VALUES {values}) "  # noqa: S608  # names and numbers of ours
        f"SELECT number, sign{groups}, {columns}, min({place}) AS first_at, max({place}) AS last_at "
        f"FROM periods JOIN {source} ON {place} >= start AND {place} < stop {where} GROUP BY number, sign{groups}"
    )


# Budgets: spending by key, and the slices that serving processes have claimed.
_QUARTER_MS: Final = HOUR_MS // 4
SPENDING: Final = (
    f"SELECT at_ms / {_QUARTER_MS} * {_QUARTER_MS} AS at_ms, coalesce(value, '') AS key, coalesce(label, '') AS name, "  # noqa: S608  # names and numbers of ours
    "billing, sum(cost_micros) AS cost_micros, "
    "sum(coalesce(input, 0) + coalesce(output, 0) + coalesce(write_5m, 0) + coalesce(write_1h, 0)) AS tokens "
    "FROM requests LEFT JOIN names ON names.id = requests.key WHERE requests.id > ? GROUP BY 1, value, label, billing"
)
"""By quarters of an hour, at which the days of every time zone begin."""
KEYS: Final = "SELECT id, value, label FROM names WHERE kind = 'key'"
SEE_HOLDER: Final = "UPDATE holders SET seen_ms = ? WHERE id = ?"
INSERT_HOLDER: Final = "INSERT INTO holders (seen_ms, id) VALUES (?, ?)"
DELETE_HOLDERS: Final = "DELETE FROM holders WHERE seen_ms < ? OR seen_ms > ?"
"""Deletes holders not seen since a time, or seen in the future, which means before the last boot."""
HOLDERS: Final = "SELECT id FROM holders"
DELETE_SLICES: Final = "DELETE FROM slices WHERE holder NOT IN (SELECT id FROM holders)"
PUT_SLICE: Final = (
    "INSERT INTO slices (holder, budget, start, amount) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (holder, budget, start) DO UPDATE SET amount = excluded.amount"
)
DELETE_SLICE: Final = "DELETE FROM slices WHERE holder = ? AND budget = ? AND start = ?"
SLICES: Final = "SELECT budget, start, sum(amount) AS amount FROM slices WHERE holder <> ? GROUP BY 1, 2"
INSERT_CROSSING: Final = (
    'INSERT INTO crossings (budget, start, amount, percent, "end") VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING'
)
DELETE_OLD_CROSSINGS: Final = 'DELETE FROM crossings WHERE "end" < ?'
DELETE_HOLDER: Final = "DELETE FROM holders WHERE id = ?"

OLDEST: Final = {
    "requests": "SELECT min(at_ms) FROM requests",
    "hours": "SELECT min(period) FROM hours",
    "days": "SELECT min(period) FROM days",
}
LABELS: Final = "SELECT id, label FROM names WHERE kind IN ('key', 'account', 'provider', 'model')"
SESSION_LABELS: Final = "SELECT id, label FROM names"
WINDOW_LABELS: Final = "SELECT id, label FROM names WHERE kind = 'window'"
ACTIVE_HOURS: Final = (
    "SELECT DISTINCT period, account FROM hours WHERE period >= ? AND period < ? AND requests > 0 ORDER BY period"
)
UNPRICED: Final = (
    "SELECT provider, model, sum(unpriced) AS requests FROM days WHERE period >= ? AND unpriced > 0 GROUP BY 1, 2"
)
WINDOWS: Final = (
    "SELECT account, name, at_ms, used_ppm, reset_ms, status FROM windows WHERE at_ms >= ? AND at_ms < ? ORDER BY at_ms"
)
WINDOWS_OF: Final = (
    "SELECT account, name, at_ms, used_ppm, reset_ms, status FROM windows WHERE account IN "
    "(SELECT id FROM names WHERE kind = 'account' AND label = ?) AND at_ms >= ? AND at_ms < ? ORDER BY at_ms"
)
