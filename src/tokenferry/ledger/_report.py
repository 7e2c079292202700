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
"""The tables from the coarsest to the finest, and how many milliseconds are one of their units."""
_BLOCK: Final = "5h"
_BLOCK_MS: Final = 5 * sql.HOUR_MS
_SAME_RESET_MS: Final = 30 * 60 * 1000


class Usage(Struct):
    """What was used. Money is in micro-dollars."""

    requests: int = 0
    errors: int = 0
    uncounted: int = 0
    """Requests whose answers said nothing of what they used."""
    estimated: int = 0
    """Requests whose answers were cut, so that their output is an estimate."""
    unpriced: int = 0
    """Requests to models of unknown price."""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    thinking: int = 0
    searches: int = 0
    cost: int = 0
    """What is paid for: by API keys, and on top of subscriptions."""
    plan: int = 0
    """What a subscription covers, at list price."""
    unpriced_cost: int = 0
    """The part of both that unknown models are counted at."""
    models: dict[str, "Usage"] = field(default_factory=dict)

    @property
    def cache_creation(self) -> int:
        return self.write_5m + self.write_1h

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_creation

    def add(self, other: "Usage") -> None:
        """Count another one to it."""
        self._add(other)
        for model, usage in other.models.items():
            self.models.setdefault(model, Usage()).add(usage)

    def count(self, model: str, other: "Usage") -> None:
        """Count what one model was used for to it."""
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
    """What was used in a period by one group of requests. Times are milliseconds since 1970 UTC."""

    period: Period
    group: tuple[str, ...]
    """The names of what was asked for, in its order; empty for none."""
    usage: Usage
    first: int
    last: int


class UsageReport:
    """Reads what was used: from rows, or from hourly or daily sums where those tell the same."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def rows(
        self, periods: Sequence[Period], by: Sequence[Dimension] = (), *, where: Mapping[Dimension, str] = NOTHING
    ) -> list[UsageRow]:
        """What was used in each period by each group, in the order of periods; nothing for a group that did nothing.

        `where` limits it to the requests of these names; a key is named by its id, or by the name that it had last.
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
            del found[number, group].usage.models[model]  # a whole day had it, and it is taken out again
        return [found[key] for key in sorted(found) if found[key].usage.models]

    def spending(self, spans: Sequence[Span]) -> list[dict[tuple[str, str], Spending]]:
        """What each client key spent in each of these periods, by its id and name.

        What a client's own credential paid for is left out.
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
        """The condition of SQL that keeps the requests of these names."""
        text = ""
        for kind, name in where.items():
            found = sql.numbers(row["id"] for row in self._ledger.rows(sql.FIND_NAMES, (kind, name, name)))
            text += f" AND {kind} IN ({found})" + (" AND session > 0" if kind == "session" else "")
        return text

    def blocks(self, since: int, until: int) -> list[Period]:
        """The windows of five hours that accounts had: the vendor's own, else from the first hour with requests on."""
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
        """The share that was used of each account's window, and when that ends, as they were known last."""
        return {
            name: (points[-1].used, int(points[-1].reset * 1000)) for name, points in self.history(since, until).items()
        }

    def history(
        self, since: int, until: int, *, account: str | None = None
    ) -> dict[tuple[str, str], list[WindowPoint]]:
        """How much of each window was used, oldest first, by account and window; of all accounts, or of one."""
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
        """Provider, model and requests of each model of unknown price, since a day's time in milliseconds."""
        labels = self._labels(has_sessions=False)
        rows = self._ledger.rows(sql.UNPRICED, (since // sql.DAY_MS,))
        return [(labels.get(row["provider"], ""), labels.get(row["model"], ""), row["requests"]) for row in rows]

    def names(self) -> set[str]:
        """Every name in the ledger but those of sessions: of models as asked and served, accounts, keys, providers."""
        return set(self._labels(has_sessions=False).values()) - {""}

    def _parts(self, periods: Sequence[Period], *, is_by_rows: bool) -> dict[str, list[sql.Part]]:
        """Which table tells of which part of the periods, in that table's units: whole days, whole hours, the rest.

        A period of a day or more is made of the days nearest to it: of what these lack or have too much at both ends,
        hours tell, and rows. So a day of any zone takes half a day of hours at most.
        """
        parts: dict[str, list[sql.Part]] = {name: [] for name in _UNITS}
        if is_by_rows:
            parts["requests"] = [(number, one.start, one.end, 1) for number, one in enumerate(periods)]
            return parts
        seams = [(self._seam("hours", "days"), sql.DAY_MS), (self._seam("requests", "hours"), sql.HOUR_MS)]

        def settled(bound: int) -> int:
            """The bound itself, or the beginning of its hour or day where nothing finer is left."""
            unit = next((unit for seam, unit in seams if bound < seam), 1)
            return bound // unit * unit

        for number, period in enumerate(periods):
            start, end = settled(period.start), settled(period.end)
            first, last = (round(bound / sql.DAY_MS) for bound in (start, end))
            if first < last:
                parts["days"].append((number, first, last, 1))
                for edge, day, sign in ((start, first * sql.DAY_MS, 1), (end, last * sql.DAY_MS, -1)):
                    _divide(parts, number, min(edge, day), max(edge, day), sign if edge < day else -sign)
            else:
                _divide(parts, number, start, end, 1)
        return parts

    def _seam(self, finer: str, coarser: str) -> float:
        """From when on the finer table is complete, of two; what is older only the coarser one knows."""
        unit = _UNITS[coarser]
        old, older = (self._oldest(name) for name in (finer, coarser))
        return -math.inf if math.inf in (old, older) or old // unit * unit <= older else -(-old // unit) * unit

    def _oldest(self, table: str) -> float:
        oldest = self._ledger.rows(sql.OLDEST[table])[0][0]
        return math.inf if oldest is None else oldest * _UNITS[table]

    def _labels(self, has_sessions: bool) -> dict[object, str]:  # noqa: FBT001  # the one thing that there is to say
        rows = self._ledger.rows(sql.SESSION_LABELS if has_sessions else sql.LABELS)
        return {row["id"]: row["label"] for row in rows}

    def _windows(self) -> dict[int, str]:
        return {row["id"]: row["label"] for row in self._ledger.rows(sql.WINDOW_LABELS)}


def _divide(parts: dict[str, list[sql.Part]], number: int, start: int, end: int, sign: int) -> None:
    """Give the whole hours between two times to their table, and both edges to the rows."""
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
    """What a request counts for budgets: nothing where the client's own credential paid for it."""
    if billing == "own":
        return Spending()
    return Spending(0 if billing == "plan" else cost, cost, tokens)


def total(rows: Iterable[UsageRow]) -> Usage:
    """All of it in one."""
    found = Usage()
    for row in rows:
        found.add(row.usage)
    return found
