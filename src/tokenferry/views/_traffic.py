"""Requests, sessions and usage over time, as selected by a query string."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlencode

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.errors import UsageError
from tokenferry.ledger import (
    Dimension,
    Period,
    SeriesBy,
    SeriesPoint,
    SeriesUnit,
    SessionRow,
    TrafficCursor,
    TrafficFilter,
    TrafficOrder,
    TrafficPage,
    TrafficReport,
    TrafficRow,
    TrafficSeries,
    Usage,
    UsageReport,
    total,
)
from tokenferry.views._books import LedgerReader

SeriesOf: TypeAlias = Literal["requests", "tokens", "cost", "errors"]
SessionOrder: TypeAlias = Literal["last_ms", "first_ms", "requests", "errors", "tokens", "cost", "accounts"]

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
RANGES: Final[Mapping[str, int]] = {
    "1h": _HOUR_MS,
    "24h": _DAY_MS,
    "7d": 7 * _DAY_MS,
    "30d": 30 * _DAY_MS,
    "90d": 90 * _DAY_MS,
}
_USUAL: Final = "24h"
_DEFAULTS: Final = {
    "range": _USUAL,
    "sort": "at",
    "by": "account",
    "of": "requests",
    "shows": "requests",
    "sessions": "last_ms",
}
_NAMES: Final = ("key", "account", "provider", "model", "session", "agent", "error")
_SUMMED: Final[tuple[Dimension, ...]] = ("key", "account", "provider", "model", "session")
_MINUTES_UP_TO: Final = 3 * _HOUR_MS
_HOURS_UP_TO: Final = 7 * _DAY_MS
_LONGEST: Final = 256
_MOST: Final = 1100 * _DAY_MS
"""A longer range would make too many points of a series."""
MOST_SESSIONS: Final = 500
"""The number of latest sessions that can be sorted by other columns than their last request."""
_UNCACHED_UP_TO: Final = 2 * _DAY_MS
"""The sums of a longer range may be some seconds old."""


class TrafficQuery(Struct, frozen=True):
    """The selected traffic: the parameters of a link. Times are milliseconds since 1970 UTC."""

    since: int
    until: int
    range: str = _USUAL
    """One of `RANGES`; empty where `since` and `until` were given."""
    names: Mapping[str, str] = field(default_factory=dict)
    status: str = ""
    sort: TrafficOrder = "at"
    by: SeriesBy = "account"
    of: SeriesOf = "requests"
    shows: Literal["requests", "sessions"] = "requests"
    behind: TrafficCursor | None = None
    is_ascending: bool = False
    sessions_by: SessionOrder = "last_ms"

    @property
    def filter(self) -> TrafficFilter:
        return TrafficFilter(self.since, self.until, status=self.status, **self.names)

    @property
    def unit(self) -> SeriesUnit:
        """The grain of a series of this length."""
        length = self.until - self.since
        return "minutes" if length <= _MINUTES_UP_TO else "hours" if length <= _HOURS_UP_TO else "days"

    def link(self, **changes: str | int | None) -> str:
        """Return the query string of a link that changes this, from the first row on. None removes a parameter."""
        time: dict[str, str | int | None] = {"since": self.since, "until": self.until}
        given: dict[str, str | int | None] = {
            **(time if not self.range else {"range": self.range}),
            **self.names,
            "status": self.status,
            "sort": self.sort,
            "by": self.by,
            "of": self.of,
            "shows": self.shows,
            "order": "up" if self.is_ascending else "",
            "sessions": self.sessions_by,
        } | changes
        if "range" in changes:
            given |= {"since": None, "until": None}
        query = {name: value for name, value in given.items() if value not in {None, "", _DEFAULTS.get(name)}}
        return f"?{urlencode(query)}"

    def sort_link(self, column: str) -> str:
        """Return a heading's query string: the greatest first, or reversed if it is so already."""
        name, chosen = ("sort", self.sort) if self.shows == "requests" else ("sessions", self.sessions_by)
        is_turned = column == chosen and not self.is_ascending
        return self.link(**{name: column, "order": "up" if is_turned else None})

    def direction(self, column: str) -> str | None:
        """Return a heading's `aria-sort`; None if the table isn't sorted by it."""
        if column != (self.sort if self.shows == "requests" else self.sessions_by):
            return None
        return "ascending" if self.is_ascending else "descending"

    def page_link(self, behind: TrafficCursor) -> str:
        """Return the query string of the page after a request, with the same end of the range."""
        cursor = f"{behind.weight}.{behind.request_id}"
        return self.link(range=None, since=self.since, until=self.until, behind=cursor)


class RunningRequest(Struct, frozen=True):
    """A running request. `at` is in seconds since 1970 UTC."""

    request_id: str
    at: float
    stage: str
    key: str = ""
    account: str = ""
    provider: str = ""
    model: str = ""
    session: str = ""
    agent: str = ""
    attempts: int = 0
    first_byte: float | None = None
    """Seconds until the first byte."""


class RunningRequests(Struct, frozen=True):
    """The running requests known to the process that was asked, oldest first."""

    rows: tuple[RunningRequest, ...] = ()
    worker: int | None = None
    """The number of the worker, if there are several; None for all."""

    def matching(self, query: TrafficQuery) -> tuple[RunningRequest, ...]:
        """Return the requests on a page; none on a page about the past, or about how requests ended."""
        if not query.range or query.status or query.behind is not None or query.names.get("error"):
            return ()
        return tuple(one for one in self.rows if all(getattr(one, name) == it for name, it in query.names.items()))

    def find(self, request_id: str) -> RunningRequest | None:
        return next((one for one in self.rows if one.request_id == request_id), None)


class TrafficView(Struct, frozen=True):
    """What a page of traffic shows."""

    query: TrafficQuery
    page: TrafficPage = field(default_factory=lambda: TrafficPage(()))
    sessions: tuple[SessionRow, ...] = ()
    series: TrafficSeries = field(default_factory=lambda: TrafficSeries(()))
    usage: Usage | None = None
    """The sums of all matches; None if there are no such sums."""
    first_bytes: Sequence[int] = ()
    """Milliseconds, sorted."""
    durations: Sequence[int] = ()
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The names to filter by."""
    has_any: bool = False
    """Whether there is any request."""

    @property
    def most(self) -> int:
        """The greatest sum of the series' buckets."""
        columns = zip(*self.series.lines.values(), strict=True)
        return max((sum(getattr(point, self.query.of) for point in column) for column in columns), default=0)

    def series_json(self) -> dict[str, Any]:
        """Return the series for a chart: seconds, then a list for each name."""
        return {
            "starts": [start // 1000 for start in self.series.starts],
            "unit": self.query.unit,
            "of": self.query.of,
            "lines": [
                [name, [_value(point, self.query.of) for point in line]] for name, line in self.series.lines.items()
            ],
        }


def _value(point: SeriesPoint, of: SeriesOf) -> float:
    value: int = getattr(point, of)
    return value / 1e6 if of == "cost" else value


def traffic_query(given: Mapping[str, str], *, now: float) -> TrafficQuery:
    """Parse the parameters of a link, ignoring unknown ones. `now` in seconds since 1970 UTC.

    Raises `UsageError` for an invalid time.
    """
    range_ = given.get("range", "")
    until = int(now * 1000) + 1
    if "since" in given or "until" in given:
        until = min(_time(given.get("until"), until), until)
        since, range_ = max(_time(given.get("since"), until - _DAY_MS), until - _MOST), ""
        if since >= until:
            raise UsageError("the time asked for ends before it begins")
    else:
        range_ = range_ if range_ in RANGES else _USUAL
        since = until - RANGES[range_]
    names = {name: given[name][:_LONGEST] for name in _NAMES if given.get(name)}
    return TrafficQuery(
        since,
        until,
        range_,
        names,
        given.get("status", "")[:_LONGEST],
        _one_of(given.get("sort"), get_args(TrafficOrder), "at"),
        _one_of(given.get("by"), get_args(SeriesBy), "account"),
        _one_of(given.get("of"), get_args(SeriesOf), "requests"),
        _one_of(given.get("shows"), ("requests", "sessions"), "requests"),
        _cursor(given.get("behind", "")),
        given.get("order") == "up",
        _one_of(given.get("sessions"), get_args(SessionOrder), "last_ms"),
    )


def traffic_view(books: LedgerReader, query: TrafficQuery) -> TrafficView:
    """Read the selected traffic. Raises what reading the ledger raises, `TryLater` if it takes too long."""
    traffic, usage = books.traffic(), books.usage()
    if traffic is None or usage is None:
        return TrafficView(query, choices=dict.fromkeys(get_args(SeriesBy), ()))
    choices = {kind: traffic.names(kind) for kind in get_args(SeriesBy)}
    view = TrafficView(query, choices=choices, has_any=bool(choices["provider"]))
    if query.shows == "sessions":
        return replace(view, sessions=_sessions(traffic, query))
    page = traffic.page(query.filter, order=query.sort, behind=query.behind, is_ascending=query.is_ascending)
    if query.behind is not None:
        return replace(view, page=page)
    view = replace(view, page=page)
    if query.until - query.since <= _UNCACHED_UP_TO:
        return _with_sums(view, traffic, usage)
    asked = (query.range or (query.since, query.until), tuple(query.names.items()), query.status, query.by)
    known = books.remembered(asked, lambda: _with_sums(view, traffic, usage))
    return replace(
        view, usage=known.usage, series=known.series, first_bytes=known.first_bytes, durations=known.durations
    )


def traffic_rows(
    books: LedgerReader, query: TrafficQuery, *, most: int
) -> tuple[TrafficRow, ...] | tuple[SessionRow, ...]:
    """Return the first listed rows: at most `most` requests, or `MOST_SESSIONS`. Raises as `traffic_view`."""
    traffic = books.traffic()
    if traffic is None:
        return ()
    if query.shows == "sessions":
        found = traffic.sessions(query.filter, count=MOST_SESSIONS)
        return tuple(sorted(found, key=attrgetter(query.sessions_by), reverse=not query.is_ascending))
    return traffic.page(query.filter, order=query.sort, count=most, is_ascending=query.is_ascending).rows


def _sessions(traffic: TrafficReport, query: TrafficQuery) -> tuple[SessionRow, ...]:
    """Return a page of sessions: the latest, or the latest 500 in another order."""
    if query.sessions_by == "last_ms" and not query.is_ascending:
        before = None if query.behind is None else query.behind.weight
        return tuple(traffic.sessions(query.filter, before=before))
    found = traffic.sessions(query.filter, count=MOST_SESSIONS)
    return tuple(sorted(found, key=attrgetter(query.sessions_by), reverse=not query.is_ascending))


def _with_sums(view: TrafficView, traffic: TrafficReport, usage: UsageReport) -> TrafficView:
    query = view.query
    first_bytes, durations = traffic.durations(query.filter)
    has_sums = not query.status and query.names.keys() <= set(_SUMMED)
    where: dict[Dimension, str] = {name: query.names[name] for name in _SUMMED if name in query.names}
    sums = total(usage.rows([Period("", query.since, query.until)], where=where)) if has_sums else None
    has_series = has_sums and "session" not in query.names
    series = traffic.series(query.filter, query.unit, query.by) if has_series else view.series
    return replace(view, first_bytes=first_bytes, durations=durations, usage=sums, series=series)


def quantile(values: Sequence[int], share: float) -> int | None:
    """Return the quantile of sorted values, or None."""
    return values[min(int(share * len(values)), len(values) - 1)] if values else None


def _one_of(given: str | None, known: Sequence[Any], usual: Any) -> Any:
    return given if given in known else usual


def _time(text: str | None, usual: int) -> int:
    if not text:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):  # noqa: PLR2004  # digits that are a time
        raise UsageError(f"{text[:40]!r} is not a time; give milliseconds since 1970")
    return int(text)


def _cursor(text: str) -> TrafficCursor | None:
    weight, _, request_id = text.partition(".")
    is_number = weight.removeprefix("-").isascii() and weight.removeprefix("-").isdecimal()
    return TrafficCursor(int(weight), request_id[:_LONGEST]) if is_number and len(weight) <= 18 else None  # noqa: PLR2004  # as SQLite takes it
