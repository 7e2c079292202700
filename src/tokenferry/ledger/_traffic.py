"""Reads requests, sessions and time series, fast enough for a page."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.ledger import _schema as sql
from tokenferry.ledger._entry import Billing
from tokenferry.ledger._ledger import Ledger
from tokenferry.state import Row

TrafficOrder: TypeAlias = Literal["at", "cost", "tokens", "ms", "first_ms", "attempts"]
SeriesUnit: TypeAlias = Literal["minutes", "hours", "days"]
SeriesBy: TypeAlias = Literal["account", "key", "model", "provider"]

_MINUTE_MS: Final = 60_000
_KINDS: Final = {
    **{name: name for name in ("key", "account", "provider", "model", "session", "agent")},
    "asked": "model",
    "parent": "agent",
    "error": "word",
    "speed": "word",
    "tier": "word",
    "geo": "word",
}
"""The kind of name in each column."""
_SUMMED: Final = ("key", "account", "provider", "model")
"""The columns that hourly sums have, too."""
_TOKENS: Final = ("input", "output", "cache_read", "write_5m", "write_1h")
_WEIGHTS: Final[Mapping[TrafficOrder, str]] = {
    "cost": "cost_micros",
    "tokens": " + ".join(f"coalesce({name}, 0)" for name in _TOKENS),
    "ms": "ms",
    "first_ms": "coalesce(first_ms, -1)",
    "attempts": "attempts",
}
_SORTED: Final = 10_000
"""The most requests, latest first, that are sorted without an index."""
_MOST_HOURS: Final = 240
_SECONDS: Final = 2.0
_LATEST_MS: Final = 1 << 62
_FAILED: Final = 400
_FIRST: Final = (-1, "")
_DIGITS: Final = 3
"""The length of a status code."""
_MOST_OF_SESSION: Final = 2000


class TrafficFilter(Struct, frozen=True):
    """Selects requests; an empty text matches all. Times are in milliseconds since 1970 UTC."""

    since: int = 0
    until: int = _LATEST_MS
    """Exclusive."""
    key: str = ""
    account: str = ""
    provider: str = ""
    model: str = ""
    session: str = ""
    agent: str = ""
    error: str = ""
    status: str = ""
    """`ok`, `failed`, `slow` (10 s or more until the first byte), or a status code."""

    @property
    def names(self) -> dict[str, str]:
        """The names that columns must have."""
        return {name: value for name in self.__struct_fields__ if name in _KINDS and (value := getattr(self, name))}


class TrafficCursor(NamedTuple):
    """The request after which a page begins, by its weight in the order."""

    weight: int
    request_id: str


class TrafficRow(Struct, frozen=True):
    """A request in the ledger. Unknown counts are None; money is in micro-dollars."""

    at_ms: int
    request_id: str
    key: str
    account: str
    provider: str
    asked: str
    model: str
    session: str
    agent: str
    parent: str
    error: str
    is_side: bool
    status: int
    attempts: int
    input: int | None
    output: int | None
    cache_read: int | None
    write_5m: int | None
    write_1h: int | None
    thinking: int | None
    searches: int | None
    is_estimated: bool
    billing: Billing
    cost: int
    is_priced: bool
    first_ms: int | None
    ms: int
    bytes_in: int
    bytes_out: int

    @property
    def tokens(self) -> int | None:
        """The sum of all counts; None if all are unknown."""
        counts = (self.input, self.output, self.cache_read, self.write_5m, self.write_1h)
        return None if all(one is None for one in counts) else sum(one or 0 for one in counts)

    @property
    def is_failed(self) -> bool:
        return bool(self.error)


class TrafficPage(Struct, frozen=True):
    """A page of requests in the order asked for."""

    rows: tuple[TrafficRow, ...]
    following: TrafficCursor | None = None
    """Where the next page begins; None for the last one."""
    looked_to: int | None = None
    """How far the search went if it did not cover the whole time, in milliseconds since 1970 UTC."""


class SessionRow(Struct, frozen=True):
    """The usage of a session within the time asked for."""

    session: str
    first_ms: int
    last_ms: int
    requests: int
    errors: int
    tokens: int
    cost: int
    accounts: int


class SeriesPoint(Struct, frozen=True):
    """The usage in one bucket of time. `start` is in milliseconds since 1970 UTC."""

    start: int
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    cost: int = 0


class TrafficSeries(Struct, frozen=True):
    """Lines over the same buckets of time, the largest first. The rest is named `other`."""

    starts: tuple[int, ...]
    lines: Mapping[str, tuple[SeriesPoint, ...]] = field(default_factory=dict)


class TrafficReport:
    """Reads requests of a ledger. A query raises `TryLater` after 2 s. Don't call it on an event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def page(
        self,
        asked: TrafficFilter,
        *,
        order: TrafficOrder = "at",
        behind: TrafficCursor | None = None,
        count: int = 50,
        is_ascending: bool = False,
    ) -> TrafficPage:
        """Give matching requests, latest first. Another order sorts the latest 10,000; `is_ascending` reverses it."""
        where = self._where(asked)
        if where is None:
            return TrafficPage(())
        if order == "at":
            return self._by_time(asked, where, behind, count, is_ascending=is_ascending)
        ranked, looked_to = self._ranked(asked, where, _WEIGHTS[order])
        if is_ascending:
            chosen = heapq.nsmallest(count + 1, (one for one in ranked if one[0] >= 0 and one[:2] > (behind or _FIRST)))
        else:
            chosen = heapq.nlargest(count + 1, (one for one in ranked if behind is None or one[:2] < behind))
        rows = {row.request_id: row for row in self._rows(f"id IN ({sql.numbers(one[2] for one in chosen[:count])})")}
        following = TrafficCursor(*chosen[count - 1][:2]) if len(chosen) > count else None
        found = tuple(rows[one[1]] for one in chosen[:count] if one[1] in rows)
        return TrafficPage(found, following, looked_to)

    def request(self, request_id: str, at_ms: int | None = None) -> TrafficRow | None:
        """Give one request. Without its start time all rows are scanned."""
        if at_ms is None:
            found = self._rows("request_id = ?", (request_id,), limit=1)
        else:
            found = self._rows("at_ms BETWEEN ? AND ? AND request_id = ?", (at_ms, at_ms + 999, request_id), limit=1)
        return next(iter(found), None)

    def session(self, session: str) -> list[TrafficRow]:
        """Give the last 2,000 requests of a session, oldest first."""
        where = self._where(TrafficFilter(session=session))
        if where is None:
            return []
        text, values = where
        return self._rows(f"{text} ORDER BY at_ms DESC, request_id DESC", values, limit=_MOST_OF_SESSION)[::-1]

    def sessions(self, asked: TrafficFilter, *, before: int | None = None, count: int = 50) -> list[SessionRow]:
        """Give sessions by their last matching request, latest first; with `before`, those that ended before it.

        They are found in the latest 10,000 requests of the time asked for.
        """
        where = self._where(asked)
        if where is None:
            return []
        text, values = where
        until = asked.until if before is None else min(before, asked.until)
        later = "NOT EXISTS (SELECT 1 FROM requests WHERE session = latest.session AND session > 0 AND at_ms >= ?)"
        latest = f"SELECT session, at_ms FROM requests WHERE {_RANGE} AND {text} ORDER BY at_ms DESC LIMIT {_SORTED}"  # noqa: S608  # names of ours
        query = (
            f"SELECT session FROM (SELECT session, max(at_ms) AS last_ms FROM ({latest}) AS rows WHERE session > 0 "  # noqa: S608  # as above
            f"GROUP BY session) AS latest WHERE {later} ORDER BY last_ms DESC LIMIT {count}"
        )
        found = self._query(query, (asked.since, until, *values, until))
        sessions = sql.numbers(row["session"] for row in found)
        sums = (
            "SELECT label AS session, min(at_ms) AS first_ms, max(at_ms) AS last_ms, sum(1 - side) AS requests, "  # noqa: S608  # as above
            f"sum({sql.ERRORS}) AS errors, sum({_WEIGHTS['tokens']}) AS tokens, sum(cost_micros) AS cost, "
            "count(DISTINCT nullif(account, 0)) AS accounts FROM requests JOIN names ON names.id = session "
            f"WHERE session > 0 AND session IN ({sessions}) AND {_RANGE} AND {text} "
            "GROUP BY names.id, label ORDER BY last_ms DESC"
        )
        columns = SessionRow.__struct_fields__
        rows = self._query(sums, (asked.since, until, *values))
        return [SessionRow(*(row[name] for name in columns)) for row in rows]

    def series(self, asked: TrafficFilter, bucket: SeriesUnit, by: SeriesBy, *, most: int = 7) -> TrafficSeries:
        """Give the usage per bucket, of the `most` names with the most tokens and of the others together.

        It uses the filter's times and its names of keys, accounts, providers and models.
        """
        where = self._where(TrafficFilter(**{name: getattr(asked, name) for name in _SUMMED}))
        source, unit, place = _BUCKETS[bucket]
        first, last = asked.since // unit, max(asked.until - 1, asked.since) // unit
        starts = range(first, last + 1)
        if where is None:
            return TrafficSeries(tuple(start * unit for start in starts))
        text, values = where
        counted = _OF_ROWS if source == "requests" else _OF_SUMS
        bounds = (first * unit, (last + 1) * unit) if source == "requests" else (first, last + 1)
        column = "at_ms" if source == "requests" else "period"
        query = (
            f"SELECT {place} AS bucket, {by} AS name, {counted} FROM {source} "  # noqa: S608  # names of ours
            f"WHERE {column} >= ? AND {column} < ? AND {text} GROUP BY bucket, name"
        )
        totals: dict[int, int] = defaultdict(int)
        found: dict[int, dict[int, tuple[int, ...]]] = defaultdict(dict)
        for row in self._query(query, (*bounds, *values)):
            totals[row["name"]] += row["tokens"]
            found[row["name"]][row["bucket"]] = (row["requests"], row["errors"], row["tokens"], row["cost"])
        ranking = sorted(totals, key=lambda name: (-totals[name], name))
        labels = self._labels(ranking[:most])
        lines: dict[str, tuple[SeriesPoint, ...]] = {}
        for name in ranking[:most]:
            of_name = found[name]
            lines[labels.get(name, "none")] = tuple(SeriesPoint(at * unit, *of_name.get(at, ())) for at in starts)
        if others := ranking[most:]:
            nothing = (0, 0, 0, 0)
            sums = ([*map(sum, zip(*(found[one].get(at, nothing) for one in others), strict=True))] for at in starts)
            lines["other"] = tuple(SeriesPoint(at * unit, *one) for at, one in zip(starts, sums, strict=True))
        return TrafficSeries(tuple(start * unit for start in starts), lines)

    def durations(self, asked: TrafficFilter, *, most: int = 2000) -> tuple[list[int], list[int]]:
        """Give the milliseconds to the first byte and to the end of the latest successful messages, both sorted."""
        where = self._where(asked)
        if where is None:
            return [], []
        text, values = where
        rows: list[Row] = []
        for start, stop, _ in self._spans(asked):
            if len(rows) < most:
                query = (
                    f"SELECT first_ms, ms FROM requests WHERE {_RANGE} AND side = 0 AND error = 0 AND {text} "  # noqa: S608  # names of ours
                    f"ORDER BY at_ms DESC LIMIT {most - len(rows)}"
                )
                rows += self._query(query, (start, stop, *values))
        return sorted(row[0] for row in rows if row[0] is not None), sorted(row[1] for row in rows)

    def names(self, kind: SeriesBy) -> list[str]:
        """Give every name of a kind, in order."""
        rows = self._query("SELECT DISTINCT label FROM names WHERE kind = ? ORDER BY label", (kind,))
        return [row["label"] for row in rows]

    # Finding rows.

    def _by_time(
        self,
        asked: TrafficFilter,
        where: tuple[str, list[Any]],
        behind: TrafficCursor | None,
        count: int,
        *,
        is_ascending: bool,
    ) -> TrafficPage:
        text, values = where
        sign, way = (">", "ASC") if is_ascending else ("<", "DESC")
        cursor, further = ("", []) if behind is None else (f" AND (at_ms, request_id) {sign} (?, ?)", [*behind])
        if behind is not None and is_ascending:
            asked = replace(asked, since=max(asked.since, behind.weight))
        elif behind is not None:
            asked = replace(asked, until=min(asked.until, behind.weight + bool(behind.request_id)))
        found: list[TrafficRow] = []
        looked_to = None
        for start, stop, is_cut in self._spans(asked, is_ascending=is_ascending):
            found += self._rows(
                f"{_RANGE}{cursor} AND {text} ORDER BY at_ms {way}, request_id {way}",
                (start, stop, *further, *values),
                limit=count + 1 - len(found),
                way=way,
            )
            if len(found) > count:
                last = found[count - 1]
                return TrafficPage(tuple(found[:count]), TrafficCursor(last.at_ms, last.request_id))
            looked_to = (stop if is_ascending else start) if is_cut else None
        following = None if looked_to is None else TrafficCursor(looked_to, "")
        return TrafficPage(tuple(found), following, looked_to)

    def _ranked(
        self, asked: TrafficFilter, where: tuple[str, list[Any]], weight: str
    ) -> tuple[list[tuple[int, str, int]], int | None]:
        """Give weight, request id and id of the latest matching requests, and how far the search went."""
        text, values = where
        found: list[tuple[int, str, int]] = []
        for start, stop, is_cut in self._spans(asked):
            query = (
                f"SELECT {weight} AS weight, request_id, id, at_ms FROM requests WHERE {_RANGE} AND {text} "  # noqa: S608  # names of ours
                f"ORDER BY at_ms DESC LIMIT {_SORTED - len(found)}"
            )
            rows = self._query(query, (start, stop, *values))
            found += [(row[0], row[1], row[2]) for row in rows]
            if len(found) == _SORTED:
                return found, rows[-1]["at_ms"]
            if is_cut:
                return found, start
        return found, None

    def _spans(self, asked: TrafficFilter, *, is_ascending: bool = False) -> Iterator[tuple[int, int, bool]]:
        """Give the spans of time that contain matching requests, and whether further ones are left out.

        Hourly sums show the hours in which a rare name occurs, so that the others are not scanned.
        """
        until, step = asked.until, 1 if is_ascending else -1
        summed = TrafficFilter(**{name: getattr(asked, name) for name in _SUMMED})
        where = self._where(summed)
        if not summed.names or asked.session or where is None:
            yield asked.since, until, False
            return
        text, values = where
        rows = self._query(
            f"SELECT period, sum(requests + side_requests) AS found FROM hours WHERE period >= ? AND period <= ? "  # noqa: S608  # names of ours
            f"AND {text} GROUP BY period ORDER BY period {'ASC' if is_ascending else 'DESC'} LIMIT {_MOST_HOURS + 1}",
            (asked.since // sql.HOUR_MS, (until - 1) // sql.HOUR_MS, *values),
        )
        hours = [row["period"] for row in rows[:_MOST_HOURS]]
        has_more = len(rows) > _MOST_HOURS
        at = 0
        while at < len(hours):
            end = at
            while end + 1 < len(hours) and hours[end + 1] == hours[end] + step:
                end += 1
            first, last = sorted((hours[at], hours[end]))
            start, stop = first * sql.HOUR_MS, (last + 1) * sql.HOUR_MS
            at = end + 1
            yield max(start, asked.since), min(stop, until), has_more and at == len(hours)

    def _where(self, asked: TrafficFilter) -> tuple[str, list[Any]] | None:
        """Give the condition without the times, and its values; None if nothing can match."""
        parts, values = ["true"], []
        for column, name in asked.names.items():
            kind = _KINDS[column]
            rows = self._query("SELECT id FROM names WHERE kind = ? AND value = ?", (kind, name))
            if kind == "key":
                rows = self._query(
                    "SELECT id FROM names WHERE kind = ? AND (value = ? OR label = ?)", (kind, name, name)
                )
            if not rows:
                return None
            parts.append(f"{column} IN ({', '.join('?' * len(rows))})")
            if column == "session":
                parts.append("session > 0")  # so that SQLite uses the partial index of sessions
            values += [row["id"] for row in rows]
        match asked.status:
            case "":
                pass
            case "ok":
                parts.append("error = 0")
            case "failed":
                parts.append("error > 0")
            case "slow":
                parts.append(sql.SLOW)
            case code if code.isascii() and code.isdecimal() and len(code) == _DIGITS:
                parts.append("status = ?" + (" AND error > 0" if int(code) >= _FAILED else ""))
                values.append(int(code))
            case _:
                return None
        return " AND ".join(parts), values

    def _rows(
        self, condition: str, values: Sequence[Any] = (), *, limit: int = _LATEST_MS, way: str = "DESC"
    ) -> list[TrafficRow]:
        """Give the rows of a condition and order, with their names."""
        found = f"SELECT * FROM requests WHERE {condition} LIMIT {limit}"  # noqa: S608  # names of ours
        query = f"{_SELECT} FROM ({found}) AS found {_JOINS} ORDER BY found.at_ms {way}, found.request_id {way}"
        return [_row(one) for one in self._query(query, values)]

    def _labels(self, ids: Sequence[int]) -> dict[int, str]:
        rows = self._query(f"SELECT id, label FROM names WHERE id IN ({sql.numbers(ids)})")  # noqa: S608  # numbers
        return {row["id"]: row["label"] for row in rows}

    def _query(self, query: str, values: Sequence[Any] = ()) -> Sequence[Row]:
        return self._ledger.rows(query, values, seconds=_SECONDS)


_RANGE: Final = "at_ms >= ? AND at_ms < ?"
_BUCKETS: Final[Mapping[SeriesUnit, tuple[str, int, str]]] = {
    "minutes": ("requests", _MINUTE_MS, f"at_ms / {_MINUTE_MS}"),
    "hours": ("hours", sql.HOUR_MS, "period"),
    "days": ("days", sql.DAY_MS, "period"),
}
_OF_ROWS: Final = (
    f"sum(1 - side) AS requests, sum({sql.ERRORS}) AS errors, sum({_WEIGHTS['tokens']}) AS tokens, "
    "sum(cost_micros) AS cost"
)
_OF_SUMS: Final = (
    "sum(requests) AS requests, sum(errors) AS errors, "
    "sum(input + output + cache_read + write_5m + write_1h) AS tokens, sum(cost_micros) AS cost"
)
_NAMED: Final = ("key", "account", "provider", "asked", "model", "session", "agent", "parent", "error")
_PLAIN: Final = {
    **{name: name for name in ("at_ms", "request_id", "status", "attempts", "input", "output", "cache_read")},
    **{name: name for name in ("write_5m", "write_1h", "thinking", "searches", "billing", "first_ms", "ms")},
    "bytes_in": "bytes_in",
    "bytes_out": "bytes_out",
    "side": "is_side",
    "estimated": "is_estimated",
    "cost_micros": "cost",
}
_SELECT: Final = "SELECT " + ", ".join(
    (
        *(f"found.{column} AS {name}" for column, name in _PLAIN.items()),
        "(found.price > 0 OR found.cost_micros = 0) AS is_priced",
        *(f"coalesce({name}s.label, '') AS {name}" for name in _NAMED),
    )
)
_JOINS: Final = " ".join(f"LEFT JOIN names AS {name}s ON {name}s.id = found.{name}" for name in _NAMED)


def _row(one: Row) -> TrafficRow:
    values = {name: one[name] for name in one.keys()}  # noqa: SIM118  # a row is not a mapping
    return TrafficRow(**values | {name: bool(one[name]) for name in ("is_side", "is_estimated", "is_priced")})
