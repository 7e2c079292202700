import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from msgspec import Struct

from tokenferry.errors import StorageFailed, UsageError
from tokenferry.ledger import _schema as sql
from tokenferry.ledger._costs import CostRoute, Spent, cost_route
from tokenferry.ledger._entry import NAMES, PLAIN, LedgerEntry, OtherModel, WindowPoint
from tokenferry.prices import UNKNOWN, Price, PriceTable, TokenCounts
from tokenferry.settings import LedgerSettings
from tokenferry.state import Database, Row, SqliteDatabase, Transaction
from tokenferry.stores import reason_of

logger = logging.getLogger(__name__)

_MOST_WARNED: Final = 64
_ROWS_A_DELETE: Final = 5000
_PAGES_A_STEP: Final = 500
_MOST_MODELS: Final = 1000
_MOST_KNOWN: Final = 50_000
_OTHER: Final = "other"
_LATEST_MS: Final = 4_102_444_800_000
_HOUR: Final = 3600
_MINUTE_MS: Final = 60_000
_MINUTES_A_DAY: Final = sql.DAY_MS // _MINUTE_MS
_PPM: Final = 1_000_000
_MOST_USED: Final = 1e6  # an upstream may say any number, and the column holds 64 bits
_LAST: Final = (1 << 63) - 1
_SECONDS_A_RUN: Final = 2.0

Traits: TypeAlias = tuple[tuple[str, str], ...]
"""Fields of the usage that change the price: `("speed", "fast")`."""


class Ledger:
    """The ledger: one row per request, and sums by hour and day, which change in the same transaction.

    Methods that write wait for the disk and must not be called on an event loop. All but `write` are thread-safe. They
    raise `UnsafeFile`, `CorruptFile`, `StorageFailed`.
    """

    def __init__(self, place: Path | Database, *, now: Callable[[], float] = time.time) -> None:
        self._database: Database = SqliteDatabase(place, sql.LEDGER_SCHEMA) if isinstance(place, Path) else place
        self._now = now
        self._names = _Names()
        self._unpriced: set[tuple[str, str]] = set()
        self.rows, self.insert = self._database.rows, self._database.insert

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database. It may be called twice."""
        self._database.close()

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._database.size

    def version(self) -> int:
        """Give a number that changes with every write of any process."""
        return self._database.version()

    def shared_now(self, transaction: Transaction) -> float | None:
        """Give the seconds of a clock that all hosts share; None for a ledger of one machine."""
        return self._database.now(transaction)

    def transaction(self) -> contextlib.AbstractContextManager[Transaction]:
        """Begin a transaction. No other process writes until it ends."""
        return self._database.transaction()

    def write(self, entries: Sequence[LedgerEntry], prices: PriceTable, points: Iterable[WindowPoint] = ()) -> Spent:
        """Write all entries or none, and give their costs. An entry that exists already is skipped."""
        costs: dict[_Common, int] = {}
        try:
            with self._database.transaction() as connection:
                self._names.begin(connection, prices)
                (last,) = connection.execute(sql.LAST_ID).fetchone()
                values: list[Any] = []
                for entry in entries:
                    self._append_row(values, entry, costs)
                if entries:
                    self._database.insert(connection, sql.INSERT_REQUESTS, values)
                    roll_up(connection, sql.SUM_UP, last, _LAST)
                for point in points:
                    connection.execute(sql.INSERT_WINDOW, self._point(point))
        except BaseException:
            self._names.forget()  # numbers that this transaction assigned are lost
            raise
        spent: Spent = {}
        for common, cost in costs.items():
            spent[common.spent_by] = spent.get(common.spent_by, 0) + cost
        return spent

    def _append_row(self, values: list[Any], entry: LedgerEntry, costs: "dict[_Common, int]") -> None:
        """Append the values of a request in the order of `COLUMNS`, and add its cost."""
        fields: tuple[Any, ...] = entry
        request_id, is_side, status, attempts, *used, is_estimated, billing, bytes_in, bytes_out = fields[PLAIN]
        plain, output, read, five, hour, thinking, searches = used
        at_ms = _milliseconds(entry.at)
        counts = TokenCounts(plain or 0, output or 0, read or 0, five or 0, hour or 0, searches or 0)
        common = self._names.common(entry, at_ms, is_counted=any(counts))
        cost = cost_of(entry, self._names.prices, common.price, counts, common.traits)
        if cost:
            costs[common] = costs.get(common, 0) + cost
            if not common.price_number:
                self._warn_of(entry)
        # Unrolled, since it runs for every request.
        values += common.names
        values += (
            request_id,
            1 if is_side else 0,
            status,
            attempts,
            sql.ABSENT if plain is None else plain,
            sql.ABSENT if output is None else output,
            sql.ABSENT if read is None else read,
            sql.ABSENT if five is None else five,
            sql.ABSENT if hour is None else hour,
            sql.ABSENT if thinking is None else thinking,
            sql.ABSENT if searches is None else searches,
            1 if is_estimated else 0,
            billing,
            bytes_in,
            bytes_out,
            at_ms,
            json.dumps(entry.others) if entry.others else "",
            cost,
            common.price_number,
            sql.ABSENT if entry.first_byte is None else int(entry.first_byte * 1000),
            int(entry.duration * 1000),
        )

    def _warn_of(self, entry: LedgerEntry) -> None:
        """Log once that a model's price is unknown."""
        model = (entry.provider, entry.model)
        if model not in self._unpriced and len(self._unpriced) < _MOST_WARNED:
            self._unpriced.add(model)
            logger.info(
                "the price of model %s of provider %s is unknown; $5 and $25 per million tokens are assumed; declare "
                "its price with [[prices]] in config.toml",
                entry.model or "(unnamed)",
                entry.provider,
            )

    def _point(self, point: WindowPoint) -> tuple[int | str, ...]:
        at_ms = _milliseconds(point.at)
        day = at_ms // sql.DAY_MS
        account, window = self._names.of("account", point.account, day), self._names.of("window", point.window, day)
        return (
            account,
            window,
            at_ms,
            round(min(point.used, _MOST_USED) * _PPM),
            _milliseconds(point.reset),
            point.status,
        )

    # Retention.

    def retain(self, settings: LedgerSettings, *, seconds: float = _SECONDS_A_RUN, go_on: bool = False) -> int:
        """Delete old rows for at most `seconds`, and give the number of rows that are left to delete.

        One of all processes does it, once an hour. `go_on` continues the last run of this process.
        """
        now = self._now()
        if go_on:
            return self._delete_old(settings, now, seconds)
        with self._database.transaction() as connection:
            claimed = connection.execute(sql.CLAIM_RETENTION, (int(now), int(now) - _HOUR, int(now))).rowcount
        return self._delete_old(settings, now, seconds) if claimed else 0

    def _delete_old(self, settings: LedgerSettings, now: float, seconds: float) -> int:
        end = time.monotonic() + seconds
        requests = int((now - settings.keep_requests) * 1000)
        # Erasing rows needs the sums of their hours.
        hours = int((now - max(settings.keep_hours, settings.keep_requests)) * 1000)
        self._database.keep_days(int(now * 1000) // sql.DAY_MS, requests // sql.DAY_MS)
        deleted = _ROWS_A_DELETE
        while deleted == _ROWS_A_DELETE and time.monotonic() < end:
            with self._database.transaction() as connection:
                deleted = connection.execute(sql.DELETE_OLD_REQUESTS, (requests, _ROWS_A_DELETE)).rowcount
        with self._database.transaction() as connection:
            connection.execute(sql.DELETE_OLD_HOURS, (hours // sql.HOUR_MS,))
            connection.execute(sql.DELETE_OLD_WINDOWS, (requests,))
            connection.execute(sql.DELETE_OLD_NAMES, (requests // sql.DAY_MS,))
            connection.execute(sql.REVISE_NAMES, (secrets.randbits(62),))
        self._shrink(end)
        (left,) = self._database.rows(sql.COUNT_OLD, (requests,))[0]
        return int(left)

    def _shrink(self, end: float) -> None:
        """Return free pages to the file system, some at a time."""
        free = 1
        while free and time.monotonic() < end:
            free = self._database.vacuum(_PAGES_A_STEP)

    def erase(self, *, key: str | None = None, session: str | None = None) -> int:
        """Delete all rows of a client key (by id or last name) or of a session, and give their number.

        Their sums are deleted, too. The bytes are overwritten and the pages returned.
        """
        kind, value = ("key", key) if key is not None else ("session", session)
        if value is None:
            raise UsageError("name a key or a session to erase")
        erased = 0
        with self._database.transaction(overwrites=True) as connection:
            for (found,) in connection.execute(sql.FIND_NAMES, (kind, value, value)).fetchall():
                roll_up(connection, sql.sum_up(f"{kind} = ?", sign="-"), found)
                for statement in sql.erase(kind):
                    changed = connection.execute(statement, (found,)).rowcount
                    erased += changed if statement.startswith("DELETE FROM requests") else 0
            for statement in sql.EMPTY_SUMS:
                connection.execute(statement)
            connection.execute(sql.REVISE_NAMES, (secrets.randbits(62),))
        self._names.forget()
        self._shrink(time.monotonic() + _SECONDS_A_RUN)
        return erased

    def reprice(self, prices: PriceTable, *, since: float) -> tuple[int, int, int]:
        """Reprice every row since a time in seconds since 1970 UTC.

        Give the number of changed rows, and the micro-dollars before and after.
        """
        changed = before = after = last = 0
        while rows := self._database.rows(sql.TO_REPRICE, (last, _milliseconds(since), _ROWS_A_DELETE)):
            first, last = last, int(rows[-1]["id"])
            try:
                with self._database.transaction() as connection:
                    self._names.begin(connection, prices)
                    roll_up(connection, sql.sum_up(sql.BETWEEN, sign="-"), first, last)
                    for row in rows:
                        entry = _entry_of(row)
                        price, cost = priced(entry, prices, entry.counts)
                        model = self._names.model(price.model or entry.model, int(row["at_ms"]) // sql.DAY_MS)
                        connection.execute(sql.REPRICE, (cost, self._names.price(price), model, row["id"]))
                        changed += cost != row["cost_micros"]
                        before, after = before + row["cost_micros"], after + cost
                    roll_up(connection, sql.SUM_UP, first, last)
                    for statement in sql.EMPTY_SUMS:
                        connection.execute(statement)
                    connection.execute(
                        sql.REVISE_NAMES, (secrets.randbits(62),)
                    )  # other processes hold sums of these rows
            except BaseException:
                self._names.forget()
                raise
        return changed, before, after

    def backup(self, target: Path) -> None:
        """Write a copy to a new file with mode 0600. Others may write meanwhile."""
        file = self._file()
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as fault:
            raise StorageFailed(
                f"{target} can't be created: {reason_of(fault)}; name a file that does not exist"
            ) from None
        file.copy_to(target)

    def restore(self, source: Path) -> None:
        """Replace the whole ledger by a copy. Others may write meanwhile."""
        self._file().copy_from(source)
        with self._database.transaction() as connection:
            connection.execute(sql.REVISE_NAMES, (secrets.randbits(62),))
        self._names.forget()

    def _file(self) -> SqliteDatabase:
        if isinstance(self._database, SqliteDatabase):
            return self._database
        raise UsageError(f"this ledger is in {self._database.name}; copy it with pg_dump and pg_restore")


def roll_up(connection: Transaction, sum_up: str, *values: int) -> None:
    """Add the rows that a statement selects to the sums by hour and day."""
    connection.execute(sql.MAKE_FRESH)
    connection.execute(sum_up, values)
    for statement in sql.ROLL_UP:
        connection.execute(statement)


def priced(entry: LedgerEntry, prices: PriceTable, counts: TokenCounts) -> tuple[Price, int]:
    """Give the price of the serving model, and the cost of the whole request in micro-dollars."""
    if not any(counts):
        return UNKNOWN, 0
    price = prices.price(entry.provider, (entry.model, entry.asked), entry.at)
    return price, cost_of(entry, prices, price, counts, _traits(entry))


def cost_of(entry: LedgerEntry, prices: PriceTable, price: Price, counts: TokenCounts, traits: Traits) -> int:
    """Give the cost of a whole request in micro-dollars, at this price of its model."""
    cost = 0
    for model, other in entry.others:
        if model:
            cost += prices.price(entry.provider, (model,), entry.at).cost(other, *_traits(entry))
            counts = TokenCounts(*(max(whole - part, 0) for whole, part in zip(counts, other, strict=True)))
    return cost + price.cost(counts, *traits)


def _traits(entry: LedgerEntry) -> Traits:
    return ("speed", entry.speed), ("service_tier", entry.service_tier), ("inference_geo", entry.inference_geo)


def _entry_of(row: Row) -> LedgerEntry:
    """Give an entry with the fields that decide the price of a row."""
    others = tuple(OtherModel(model, TokenCounts(*counts)) for model, counts in json.loads(row["others"] or "[]"))
    return LedgerEntry(
        at=row["at_ms"] / 1000,
        **{name: row[name] for name in ("provider", "model", "asked", "input", "output", "cache_read")},
        cache_write_5m=row["write_5m"],
        cache_write_1h=row["write_1h"],
        web_searches=row["searches"],
        speed=row["speed"],
        service_tier=row["tier"],
        inference_geo=row["geo"],
        others=others,
    )


class _Common(Struct, eq=False):
    """The values that requests of one session share."""

    names: tuple[int, ...]
    """The numbers of names, in the order of `COLUMNS`."""
    price: Price
    price_number: int
    minute: int
    """The minute for which the price was found."""
    traits: Traits
    spent_by: tuple[CostRoute, str]


class _Names:
    """Assigns numbers to names and prices, which rows refer to."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._common: dict[tuple[object, ...], _Common] = {}
        self._prices: dict[int, tuple[Price, int]] = {}
        self._models = 0
        self._revision = -1
        self._connection: Transaction
        self.prices: PriceTable

    def forget(self) -> None:
        self._known.clear()
        self._common.clear()
        self._prices.clear()
        self._models = 0

    def begin(self, connection: Transaction, prices: PriceTable) -> None:
        """Begin a transaction. Forget all numbers if another process has erased names."""
        self._connection = connection
        (revision,) = connection.execute(sql.NAMES_REVISION).fetchone()
        if revision != self._revision or len(self._known) + len(self._common) > _MOST_KNOWN:
            self.forget()
            self._revision = revision
        if not self._common or prices is not self.prices:
            self._common.clear()
            self.prices = prices

    def common(self, entry: LedgerEntry, at_ms: int, *, is_counted: bool) -> _Common:
        """Give the values that a request shares with others. Without counts it has no price."""
        minute = at_ms // _MINUTE_MS
        key = (entry[NAMES], entry.model, entry.billing, minute // _MINUTES_A_DAY, is_counted)
        found = self._common.get(key)
        if found is not None and found.minute == minute:
            return found
        price = self.prices.price(entry.provider, (entry.model, entry.asked), entry.at) if is_counted else UNKNOWN
        if found is None or found.price is not price:
            found = self._common[key] = _Common(
                self._of_entry(entry, price.model or entry.model, minute // _MINUTES_A_DAY),
                *(price, self.price(price), minute, tuple(one for one in _traits(entry) if one in price.percents)),
                (cost_route(entry, price), entry.key_name),
            )
        found.minute = minute
        return found

    def _of_entry(self, entry: LedgerEntry, model: str, day: int) -> tuple[int, ...]:
        """Give the numbers of a request's names, in the order of `COLUMNS`."""
        return (
            self.of("key", entry.key_id, day, entry.key_name),
            self.of("account", entry.account, day),
            self.of("provider", entry.provider, day),
            self.model(model, day),
            self.model(entry.asked, day),
            self.of("session", entry.session, day),
            *(self.of("agent", name, day) for name in (entry.agent, entry.parent_agent)),
            *(self.of("word", word, day) for word in (entry.error, entry.speed, entry.service_tier)),
            self.of("word", entry.inference_geo, day),
        )

    def of(self, kind: str, value: str, day: int, label: str = "") -> int:
        """Give the number of a name; 0 for an empty one. `day` is the last day it was seen."""
        if not value:
            return 0
        known = self._known.get((kind, value))
        label = label or value
        if known is not None and known[1] >= day and known[2] == label:
            return known[0]
        (number,) = self._connection.execute(sql.UPSERT_NAME, (kind, value, label, day)).fetchone()
        self._known[kind, value] = (number, day, label)
        return int(number)

    def model(self, name: str, day: int) -> int:
        """Give the number of a model. Clients may name any, and sums stay forever, so the number is limited."""
        if name and ("model", name) not in self._known:
            if not self._models:
                (self._models,) = self._connection.execute(sql.COUNT_NAMES, ("model",)).fetchone()
            if self._models >= _MOST_MODELS and self._connection.execute(sql.NAME, ("model", name)).fetchone() is None:
                name = _OTHER
            self._models += 1
        return self.of("model", name, day)

    def price(self, price: Price) -> int:
        if not price.is_known:
            return 0
        known = self._prices.get(id(price))  # a table always gives the same object
        if known is not None:
            return known[1]
        if len(self._prices) >= _MOST_MODELS:
            self._prices.clear()
        rates = json.dumps([price.rates, price.above, price.hours, sorted(price.percents.items())])
        values = (price.vendor, price.model, price.since, price.source, rates)
        self._connection.execute(sql.INSERT_PRICE, values)
        (number,) = self._connection.execute(sql.PRICE, values).fetchone()
        self._prices[id(price)] = (price, int(number))
        return int(number)


def _milliseconds(at: float) -> int:
    at_ms = int(at * 1000)
    return at_ms if 0 <= at_ms <= _LATEST_MS else min(max(at_ms, 0), _LATEST_MS)
