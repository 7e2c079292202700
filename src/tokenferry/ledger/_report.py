import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct, field

from tokenferry.budgets import Span, Spending
from tokenferry.ledger import _schema as sql
from tokenferry.ledger._entry import WindowPoint
from tokenferry.ledger._ledger import Ledger
from tokenferry.ledger._periods import Period
from tokenferry.state import Row

Dimension: TypeAlias = Literal["account", "key", "model", "provider", "session"]
NOTHING: Final[Mapping[Dimension, str]] = {}
DIMENSIONS: Final[tuple[Dimension, ...]] = ("account", "key", "model", "provider", "session")

_UNITS: Final = {"days": sql.DAY_MS, "hours": sql.HOUR_MS, "requests": 1}
"""The tables from the coarsest to the finest, and their units in milliseconds."""
_BLOCK: Final = "5h"
_BLOCK_MS: Final = 5 * sql.HOUR_MS
_SAME_RESET_MS: Final = 30 * 60 * 1000


class Usage(Struct):
    """Usage of a group of requests. Money is in micro-dollars."""

    requests: int = 0
    errors: int = 0
    uncounted: int = 0
    """Requests whose answers had no usage."""
    estimated: int = 0
    """Requests whose output is an estimate, since the answer was cut."""
    unpriced: int = 0
    """Requests to models with unknown price."""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    thinking: int = 0
    searches: int = 0
    cost: int = 0
    """The cost of API keys, and of use on top of subscriptions."""
    plan: int = 0
    """The list price of what subscriptions cover."""
    unpriced_cost: int = 0
    """The part of both that is assumed for unknown models."""
    models: dict[str, "Usage"] = field(default_factory=dict)

    @property
    def cache_creation(self) -> int:
        return self.write_5m + self.write_1h

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_creation

    def add(self, other: "Usage") -> None:
        """Add another usage."""
        self._add(other)
        for model, usage in other.models.items():
            self.models.setdefault(model, Usage()).add(usage)

    def count(self, model: str, other: "Usage") -> None:
        """Add the usage of one model."""
        self._add(other)
        known = self.models.get(model)
        if known is None:
            self.models[model] = other
        else:
            known._add(other)  # noqa: SLF001  # of the same class

    def _add(self, other: "Usage") -> None:
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_NUMBERS: Final = tuple(name for name in Usage.__struct_fields__ if name != "models")
_SUMS: Final = tuple(name for name in _NUMBERS if name in sql.SUMS)


class UsageRow(Struct):
    """The usage of one group in a period. Times are in milliseconds since 1970 UTC."""

    period: Period
    group: tuple[str, ...]
    """The names in the dimensions asked for, in their order; empty for none."""
    usage: Usage
    first: int
    last: int


class UsageReport:
    """Reads usage from rows, or from the sums by hour and day where these suffice."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def rows(
        self, periods: Sequence[Period], by: Sequence[Dimension] = (), *, where: Mapping[Dimension, str] = NOTHING
    ) -> list[UsageRow]:
        """Give the usage of each group in each period, in the order of periods. Groups without requests are left out.

        `where` restricts it to requests of these names. A key is given by its id or last name.
        """
        found: dict[tuple[int, tuple[str, ...]], UsageRow] = {}
        left: Counter[tuple[int, tuple[str, ...], str]] = Counter()
        groups = tuple(dict.fromkeys((*by, "model", "billing")))
        has_sessions = "session" in {*by, *where}
        labels = self._labels("session" in by)
        only = self._only(where)
        for source, parts in self._parts(periods, is_by_rows=has_sessions).items():
            unit = _UNITS[source]
            for row in self._ledger.rows(sql.totals(source, parts, groups, only)) if parts else ():
                number, sign = row["number"], row["sign"]
                group, model = tuple([labels.get(row[name], "") for name in by]), labels.get(row["model"], "")
                first, last = row["first_at"] * unit, row["last_at"] * unit + unit - 1
                mine = found.get((number, group))
                if mine is None:
                    mine = found[number, group] = UsageRow(periods[number], group, Usage(), first, last)
                if sign > 0:
                    mine.first, mine.last = min(mine.first, first), max(mine.last, last)
                mine.usage.count(model, _usage_of(row, sign))
                left[number, group, model] += sign * (row["requests"] + row["side_requests"])
        for number, group, model in [key for key, requests in left.items() if not requests]:
            del found[number, group].usage.models[model]  # the sums of a whole day included it
        return [found[key] for key in sorted(found) if found[key].usage.models]

    def spending(self, spans: Sequence[Span]) -> list[dict[tuple[str, str], Spending]]:
        """Give the spending of each client key in each span, by id and name.

        Requests with the client's own credential are left out.
        """
        keys = {row["id"]: (row["value"], row["label"]) for row in self._ledger.rows(sql.KEYS)}
        found: list[dict[tuple[str, str], Spending]] = [{} for _ in spans]
        periods = [Period("", span.start, span.end) for span in spans]
        for source, parts in self._parts(periods, is_by_rows=False).items():
            for row in self._ledger.rows(sql.totals(source, parts, ("key", "billing"))) if parts else ():
                sign = row["sign"]
                tokens = sign * (row["input"] + row["output"] + row["write_5m"] + row["write_1h"])
                spent = spending_of(row["billing"], sign * row["cost_micros"], tokens)
                key, mine = keys.get(row["key"], ("", "")), found[row["number"]]
                mine[key] = mine.get(key, Spending()) + spent
        return found

    def _only(self, where: Mapping[Dimension, str]) -> str:
        """Give the SQL condition for requests of these names."""
        text = ""
        for kind, name in where.items():
            found = sql.numbers(row["id"] for row in self._ledger.rows(sql.FIND_NAMES, (kind, name, name)))
            text += f" AND {kind} IN ({found})" + (" AND session > 0" if kind == "session" else "")
        return text

    def blocks(self, since: int, until: int) -> list[Period]:
        """Give the five-hour windows of accounts: the vendor's, or else from the first hour with requests."""
        labels = self._labels(has_sessions=False)
        resets: dict[int, list[int]] = {}
        window = {number for number, label in self._windows().items() if label == _BLOCK}
        for row in self._ledger.rows(sql.WINDOWS, (since - _BLOCK_MS, until)):
            if row["name"] in window and row["reset_ms"]:
                known = resets.setdefault(row["account"], [])
                if known and row["reset_ms"] - known[-1] < _SAME_RESET_MS:
                    known[-1] = max(known[-1], row["reset_ms"])
                else:
                    known.append(row["reset_ms"])
        found = []
        for account, ends in resets.items():
            start = -math.inf
            for end in ends:
                first = int(max(end - _BLOCK_MS, start))
                found.append(Period("", first, end, labels.get(account, "")))
                start = end
        active: dict[int, int] = {}
        hours = (since // sql.HOUR_MS, until // sql.HOUR_MS + 1)
        for row in self._ledger.rows(sql.ACTIVE_HOURS, hours):
            start_ms = row["period"] * sql.HOUR_MS
            if row["account"] and row["account"] not in resets and start_ms >= active.get(row["account"], 0):
                active[row["account"]] = start_ms + _BLOCK_MS
                found.append(Period("", start_ms, start_ms + _BLOCK_MS, labels.get(row["account"], "")))
        return sorted(found, key=lambda one: (one.start, one.account))

    def windows(self, since: int, until: int) -> dict[tuple[str, str], tuple[float, int]]:
        """Give the latest used share of each account's window, and its end in milliseconds."""
        return {
            name: (points[-1].used, int(points[-1].reset * 1000)) for name, points in self.history(since, until).items()
        }

    def history(
        self, since: int, until: int, *, account: str | None = None
    ) -> dict[tuple[str, str], list[WindowPoint]]:
        """Give the used shares of each window, oldest first, by account and window."""
        labels, names = self._labels(has_sessions=False), self._windows()
        found: dict[tuple[str, str], list[WindowPoint]] = {}
        rows = (
            self._ledger.rows(sql.WINDOWS, (since, until))
            if account is None
            else self._ledger.rows(sql.WINDOWS_OF, (account, since, until))
        )
        for row in rows:
            name = labels.get(row["account"], ""), names.get(row["name"], "")
            point = WindowPoint(
                *name, row["at_ms"] / 1000, row["used_ppm"] / 1e6, row["reset_ms"] / 1000, row["status"]
            )
            found.setdefault(name, []).append(point)
        return found

    def unpriced(self, since: int) -> list[tuple[str, str, int]]:
        """Give provider, model and requests of each model with unknown price, since a day in milliseconds."""
        labels = self._labels(has_sessions=False)
        rows = self._ledger.rows(sql.UNPRICED, (since // sql.DAY_MS,))
        return [(labels.get(row["provider"], ""), labels.get(row["model"], ""), row["requests"]) for row in rows]

    def names(self) -> set[str]:
        """Give every name of models, accounts, keys and providers in the ledger."""
        return set(self._labels(has_sessions=False).values()) - {""}

    def _parts(self, periods: Sequence[Period], *, is_by_rows: bool) -> dict[str, list[sql.Part]]:
        """Divide the periods among the tables, in their units: whole days, whole hours, and the rest.

        A period of a day or more is made of the nearest UTC days. Hours and rows at both ends are added or subtracted,
        so a day of any time zone needs at most half a day of hours.
        """
        parts: dict[str, list[sql.Part]] = {name: [] for name in _UNITS}
        if is_by_rows:
            parts["requests"] = [(number, one.start, one.end, 1) for number, one in enumerate(periods)]
            return parts
        seams = [(self._seam("hours", "days"), sql.DAY_MS), (self._seam("requests", "hours"), sql.HOUR_MS)]

        def rounded(bound: int) -> int:
            """Give the bound, or the start of its hour or day if no finer table remains."""
            unit = next((unit for seam, unit in seams if bound < seam), 1)
            return bound // unit * unit

        for number, period in enumerate(periods):
            start, end = rounded(period.start), rounded(period.end)
            first, last = (round(bound / sql.DAY_MS) for bound in (start, end))
            if first < last:
                parts["days"].append((number, first, last, 1))
                for edge, day, sign in ((start, first * sql.DAY_MS, 1), (end, last * sql.DAY_MS, -1)):
                    _divide(parts, number, min(edge, day), max(edge, day), sign if edge < day else -sign)
            else:
                _divide(parts, number, start, end, 1)
        return parts

    def _seam(self, finer: str, coarser: str) -> float:
        """Give the time since which the finer of two tables is complete."""
        unit = _UNITS[coarser]
        old, older = (self._oldest(name) for name in (finer, coarser))
        return -math.inf if math.inf in (old, older) or old // unit * unit <= older else -(-old // unit) * unit

    def _oldest(self, table: str) -> float:
        oldest = self._ledger.rows(sql.OLDEST[table])[0][0]
        return math.inf if oldest is None else oldest * _UNITS[table]

    def _labels(self, has_sessions: bool) -> dict[object, str]:  # noqa: FBT001  # its only argument
        rows = self._ledger.rows(sql.SESSION_LABELS if has_sessions else sql.LABELS)
        return {row["id"]: row["label"] for row in rows}

    def _windows(self) -> dict[int, str]:
        return {row["id"]: row["label"] for row in self._ledger.rows(sql.WINDOW_LABELS)}


def _divide(parts: dict[str, list[sql.Part]], number: int, start: int, end: int, sign: int) -> None:
    """Assign the whole hours between two times to their table, and both ends to the rows."""
    first, last = -(-start // sql.HOUR_MS), end // sql.HOUR_MS
    edges = [(start, end)]
    if first < last:
        parts["hours"].append((number, first, last, sign))
        edges = [(start, first * sql.HOUR_MS), (last * sql.HOUR_MS, end)]
    parts["requests"] += [(number, *edge, sign) for edge in edges if edge[0] < edge[1]]


def _usage_of(row: Row, sign: int) -> Usage:
    usage = Usage(**{name: sign * row[name] for name in _SUMS}, unpriced_cost=sign * row["unpriced_micros"])
    if row["billing"] == "plan":
        usage.plan = sign * row["cost_micros"]
    else:
        usage.cost = sign * row["cost_micros"]
    return usage


def spending_of(billing: str, cost: int, tokens: int) -> Spending:
    """Give what a request counts for budgets: nothing with the client's own credential."""
    if billing == "own":
        return Spending()
    return Spending(0 if billing == "plan" else cost, cost, tokens)


def total(rows: Iterable[UsageRow]) -> Usage:
    """Give the sum of all rows."""
    found = Usage()
    for row in rows:
        found.add(row.usage)
    return found
