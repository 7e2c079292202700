"""Copies one ledger into another: from the file of a machine into a shared database, and back."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from tokenferry.errors import StorageFailed
from tokenferry.ledger import _schema as sql
from tokenferry.ledger._ledger import Ledger, roll_up
from tokenferry.state import Row, Transaction, Values

_ROWS_A_PAGE: Final = 1000
_LAST: Final = (1 << 63) - 1
_LAST_PERIOD: Final = 1 << 32
_NAMED: Final = sql.COLUMNS[:12]
_TEXTS: Final = frozenset(("others",))

Query: TypeAlias = Callable[[str, Values], Sequence[Row]]
Sums: TypeAlias = dict[tuple[int | str, ...], list[int]]
"""By period and `DIMENSIONS`."""


def copy_ledger(source: Ledger, target: Ledger) -> int:
    """Copy requests, sums, windows and what budgets have warned of; give the number of requests that were not there.

    It may be repeated: a request that is there is not counted again, and of sums whose requests are gone the higher one
    stays. Each page of requests is read back. Raises `StorageFailed`, `CorruptFile`.
    """
    numbers = _Numbers(source)
    added = _copy_requests(source, target, numbers)
    for table, milliseconds in (("hours", sql.HOUR_MS), ("days", sql.DAY_MS)):
        _copy_sums(source, target, numbers, table, milliseconds)
    with target.transaction() as transaction:
        for account, name, *rest in source.rows("SELECT account, name, at_ms, used_ppm, reset_ms, status FROM windows"):
            transaction.execute(
                sql.INSERT_WINDOW, (numbers.name(transaction, account), numbers.name(transaction, name), *rest)
            )
        for row in source.rows('SELECT budget, start, amount, percent, "end" FROM crossings'):
            transaction.execute(sql.INSERT_CROSSING, tuple(row))
        transaction.execute(sql.REVISE_NAMES, (secrets.randbits(62),))  # others know sums of these rows
    return added


class _Numbers:
    """The numbers that names and prices of one ledger have in another one."""

    def __init__(self, source: Ledger) -> None:
        self._names = {row["id"]: tuple(row) for row in source.rows("SELECT id, kind, value, label, day FROM names")}
        columns = "id, vendor, model, since, source, rates"
        self._prices = {row["id"]: tuple(row) for row in source.rows(f"SELECT {columns} FROM prices")}  # noqa: S608  # names of ours
        self._known: dict[tuple[str, int], int] = {}

    def name(self, transaction: Transaction, number: int) -> int:
        """0 for none, and for one that was erased."""
        if number not in self._names:
            return 0
        known = self._known.get(("name", number))
        if known is None:
            (known,) = transaction.execute(sql.COPY_NAME, self._names[number][1:]).fetchone()
            self._known["name", number] = known
        return known

    def price(self, transaction: Transaction, number: int) -> int:
        if number not in self._prices:
            return 0
        known = self._known.get(("price", number))
        if known is None:
            transaction.execute(sql.INSERT_PRICE, self._prices[number][1:])
            (known,) = transaction.execute(sql.PRICE, self._prices[number][1:]).fetchone()
            self._known["price", number] = known
        return known


def _copy_requests(source: Ledger, target: Ledger, numbers: _Numbers) -> int:
    added = last = 0
    while page := source.rows("SELECT * FROM requests WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS_A_PAGE)):
        last = page[-1]["id"]
        with target.transaction() as transaction:
            (before,) = transaction.execute(sql.LAST_ID).fetchone()
            values = [value for row in page for value in _values(transaction, numbers, row)]
            target.insert(transaction, sql.INSERT_REQUESTS, values)
            (count,) = transaction.execute("SELECT count(*) FROM requests WHERE id > ?", (before,)).fetchone()
            roll_up(transaction, sql.SUM_UP, before, _LAST)
        ids = {row["request_id"] for row in page}
        times = [row["at_ms"] for row in page]
        ((found,),) = target.rows(
            "SELECT count(DISTINCT request_id) FROM requests WHERE at_ms >= ? AND at_ms <= ? "  # noqa: S608  # places alone
            f"AND request_id IN ({', '.join('?' * len(ids))})",
            (min(times), max(times), *ids),
        )
        if found != len(ids):
            raise StorageFailed(f"{len(ids) - found} requests were written, and can't be read back; run this again")
        added += count
    return added


def _values(transaction: Transaction, numbers: _Numbers, row: Row) -> list[int | str]:
    values: list[int | str] = []
    for column in sql.COLUMNS:
        value = row[column]
        if column in _NAMED:
            value = numbers.name(transaction, value)
        elif column == "price":
            value = numbers.price(transaction, value)
        elif value is None:
            value = "" if column in _TEXTS else sql.ABSENT
        values.append(value)
    return values


def _copy_sums(source: Ledger, target: Ledger, numbers: _Numbers, table: str, milliseconds: int) -> None:
    """Add what sums have beyond the requests that are there: those were deleted, or erased, since."""
    found = _without_requests(source.rows, table, milliseconds)
    if not found:
        return
    with target.transaction() as transaction:
        renumbered: Sums = {}
        for (period, *dimensions), sums in found.items():
            named = [numbers.name(transaction, int(one)) for one in dimensions[:-1]]
            key = (period, *named, dimensions[-1])
            renumbered[key] = [a + b for a, b in zip(renumbered.get(key, [0] * len(sums)), sums, strict=True)]
        there = _without_requests(
            lambda query, values: transaction.execute(query, values).fetchall(),
            *(table, milliseconds),
            last=max(int(key[0]) for key in found),
        )
        for key, sums in renumbered.items():
            known = there.get(key, [0] * len(sums))
            lacking = [max(a - b, 0) for a, b in zip(sums, known, strict=True)]
            if any(lacking):
                transaction.execute(sql.add_sums(table), (*key, *lacking))


def _without_requests(rows: Query, table: str, milliseconds: int, *, last: int = _LAST_PERIOD) -> Sums:
    """The sums of a table up to a period, less what its requests amount to."""
    width = 1 + len(sql.DIMENSIONS)
    kept: Mapping[tuple[int | str, ...], list[int]] = {
        tuple(row)[:width]: list(tuple(row)[width:]) for row in rows(sql.all_sums(table), (last,))
    }
    for row in map(tuple, rows(sql.request_sums(milliseconds), ((last + 1) * milliseconds,))):
        if (sums := kept.get(row[:width])) is not None:
            sums[:] = [a - b for a, b in zip(sums, row[width:], strict=True)]
    return {key: sums for key, sums in kept.items() if any(sums)}
