"""Synchronizes the budgets of a process with the ledger and with other processes."""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from tokenferry.budgets import (
    THRESHOLDS,
    BudgetBook,
    BudgetSubject,
    Counter,
    CounterKey,
    ModelPrice,
    RequestSize,
    Span,
    Spending,
)
from tokenferry.errors import TokenferryError
from tokenferry.ledger import _schema as sql
from tokenferry.ledger._entry import LedgerEntry
from tokenferry.ledger._ledger import Ledger
from tokenferry.ledger._report import UsageReport, spending_of
from tokenferry.prices import PriceTable
from tokenferry.state import Transaction
from tokenferry.stores import ProcessIdentity

logger = logging.getLogger(__name__)

_HEARTBEAT: Final = 5.0
"""The seconds between two heartbeats of a serving process."""
_POLL: Final = 1.0
"""The seconds between two checks for other processes' rows, if there are other processes."""
_DEAD: Final = 30.0
_LOOK: Final = 1.0
_RETENTION_MS: Final = 86_400_000


class BudgetState(NamedTuple):
    """A budget's use in the present period. Amounts are micro-dollars or tokens."""

    subject: str
    """`key:NAME`, `group:NAME` or `all`."""
    title: str
    """`the budget of $20.00 a day for all client keys`."""
    key: str
    """The name of the key that is counted separately; empty for the whole subject."""
    unit: str
    period: str
    limit: int
    used: int
    reserved: int
    """Reserved in this process."""
    refusals: int
    """Requests that this process refused."""
    end: int
    """The end of the period, in milliseconds since 1970 UTC."""

    @property
    def percent(self) -> int:
        """The used percentage; it may exceed 100."""
        return self.used * 100 // self.limit if self.limit else 100


def spent_of(report: UsageReport, counters: Sequence[Counter], keys: Mapping[str, BudgetSubject]) -> list[int]:
    """Give the ledger's sum for each counter. `keys` are the client keys by id, with their present groups."""
    spans = [*dict.fromkeys(Span(counter.key.start, counter.end) for counter in counters)]
    spent = dict(zip(spans, report.spending(spans), strict=True))
    return [
        sum(
            spending[counter.measure]
            for (key_id, name), spending in spent[Span(counter.key.start, counter.end)].items()
            if _covers(counter, key_id, name, keys)
        )
        for counter in counters
    ]


def _covers(counter: Counter, key_id: str, name: str, keys: Mapping[str, BudgetSubject]) -> bool:
    if counter.key_id and counter.key_id != key_id:
        return False
    known = keys.get(key_id)
    return counter.budget.covers(key_id, name if known is None else known.name, {} if known is None else known.labels)


def log_crossing(counter: Counter, percent: int, key_name: str) -> None:
    """Log that a budget has crossed a percentage."""
    budget = counter.budget
    title = budget.title(key_name)
    if percent < THRESHOLDS[-1]:
        logger.warning("%s: more than %d %% is used", title, percent)
    elif budget.settings.mode == "warn":
        logger.warning("%s is used up; it only warns, so requests are still served", title)
    else:
        logger.warning("%s is used up; requests are refused", title)


class BudgetExchange:
    """Reads from the ledger what is spent, and divides the rest of each budget among the processes.

    A counter is the sum of its rows from all processes: read once from the sums by hour and day, then row by row. Each
    process claims a slice of the rest. A process that has ended, or was not seen for 30 seconds, loses its slices; its
    rows count as spent, and its reservations are released. All methods except `states` and `failed` wait for the disk.
    """

    def __init__(
        self,
        book: BudgetBook,
        keys: Callable[[], Sequence[BudgetSubject]],
        *,
        announce: Callable[[Counter, int, str], None] = log_crossing,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`announce` is called with each budget that crosses a threshold, the threshold, and the name of its key.

        `keys` gives all client keys, as the same object until one changes. `monotonic` is a clock that all processes of
        the machine share.
        """
        self.book = book
        self.ready = threading.Event()
        """Set once the ledger was read, or reading has failed."""
        self._keys_now = keys
        self._listed: Sequence[BudgetSubject] = ()
        self._now, self._monotonic = now, monotonic
        self._keys: dict[str, BudgetSubject] = {}
        self._written: list[str] = []
        self._spent: dict[CounterKey, int] = {}
        self._last = 0
        self._revision = self._version = -1
        self._holders = 1
        self._exchanged_at = -_HEARTBEAT
        self._looked_at = -_LOOK
        self._recorded: dict[CounterKey, int] = {}
        """The slices of this process that are recorded."""
        self._announce = announce
        self._announced: set[tuple[str, int, int, int]] = set()

    def learn(self, entries: Sequence[LedgerEntry], prices: PriceTable) -> None:
        """Record requests that this process has just written, and improve its estimates by them."""
        if not (self.book.is_active or self.book.estimates.is_asked):
            return
        if self.book.is_active:
            self._written += [entry.request_id for entry in entries]
        # The last request of each session suffices for the estimates.
        latest = {(entry.session or entry.key_id, entry.asked): entry for entry in entries if entry.output}
        for entry in latest.values():
            price = prices.price(entry.provider, (entry.model, entry.asked), entry.at)
            size = RequestSize(entry.key_id, entry.asked, entry.session, 0, None)
            self.book.estimates.learn(size, entry.counts, ModelPrice(price, entry.billing == "plan"))

    def exchange(self, ledger: Ledger) -> None:
        """Read what is spent, and claim slices. Raises `StorageFailed`, `CorruptFile`."""
        self.look()
        if self.book.is_active:
            counters = self.book.counters()
            if self._is_due(ledger, counters):
                self._exchange(ledger, counters)
        self.ready.set()

    @property
    def interval(self) -> float | None:
        """The longest time until the next exchange, in seconds; None without budgets."""
        if not self.book.is_active:
            return None
        return _HEARTBEAT if self._holders == 1 else _POLL

    def _is_due(self, ledger: Ledger, counters: Sequence[Counter]) -> bool:
        """Whether an exchange is needed. It needs no transaction."""
        if self._monotonic() - self._exchanged_at >= _HEARTBEAT or self._version != ledger.version():
            return True
        return any(one.missing or one.held or not one.is_known for one in counters)

    def _exchange(self, ledger: Ledger, counters: Sequence[Counter]) -> None:
        with ledger.transaction() as connection:
            self._read(connection, ledger, counters)
            others, self._holders = self._others(connection, ledger.shared_now(connection))
            written, self._written = self._written, []
            self.book.exchange(self._spent, others, self._holders, written)
            claims = {one.key: one.claim for one in counters}
            self._record(connection, claims)
            crossed = [*self._crossed(connection, counters)]
        self._recorded, self._version, self._exchanged_at = claims, ledger.version(), self._monotonic()
        for counter, percent in crossed:
            known = self._keys.get(counter.key_id or counter.budget.name)
            self._announce(counter, percent, "" if known is None else known.name)

    def states(self) -> list[BudgetState]:
        """Give each budget's use that is known in memory."""
        return [self._state(one) for one in self.book.counters() if one.is_known]

    def _state(self, counter: Counter) -> BudgetState:
        limit, subject = counter.budget.limit, counter.budget.settings.subject
        kind, _, name = subject.partition(":")
        return BudgetState(
            f"key:{self._name_of(name)}" if kind == "key" else subject,
            counter.budget.title(self._name_of(counter.key_id or name if kind == "key" else counter.key_id)),
            self._name_of(counter.key_id),
            *(limit.unit, limit.period, limit.amount),
            *(counter.used, counter.reserved, counter.refusals, counter.end),
        )

    def _name_of(self, key_id: str) -> str:
        """Give a client key's name by its id; any other text stays unchanged."""
        known = self._keys.get(key_id)
        return key_id if known is None else known.name

    def failed(self) -> None:
        """Note that the ledger is unavailable. The values in memory apply until it is available again."""
        self.book.is_away = True
        self.ready.set()

    def leave(self, ledger: Ledger) -> None:
        """Release all slices, since this process stops serving."""
        if self.book.is_active:
            with ledger.transaction() as connection:
                connection.execute(sql.DELETE_HOLDER, (self._holder,))
                connection.execute(sql.DELETE_SLICES)

    def look(self) -> None:
        """Check at most once a second for changed keys and ended periods."""
        steady, now = self._monotonic(), self._now()
        if steady - self._looked_at < _LOOK:
            return
        self._looked_at = steady
        with contextlib.suppress(TokenferryError):  # the known keys apply until they can be read
            listed = self._keys_now()
            if listed is not self._listed:
                self._listed, self._keys = listed, {key.id: key for key in listed}
                self._spent.clear()
        self.book.watch([key for key in self._listed if key.revoked_at is None], now)

    def _read(self, connection: Transaction, ledger: Ledger, counters: Sequence[Counter]) -> None:
        """Update `_spent` to the last row. No other process writes during the transaction."""
        (revision,) = connection.execute(sql.NAMES_REVISION).fetchone()
        (last,) = connection.execute(sql.LAST_ID).fetchone()
        if revision != self._revision or last < self._last:
            self._spent.clear()  # rows were erased, repriced or restored
        self._spent = {one.key: self._spent[one.key] for one in counters if one.key in self._spent}
        if self._spent:
            self._add_rows(connection, [one for one in counters if one.key in self._spent])
        unread = [one for one in counters if one.key not in self._spent]
        self._spent |= zip((one.key for one in unread), spent_of(UsageReport(ledger), unread, self._keys), strict=True)
        self._last, self._revision = last, revision

    def _crossed(self, connection: Transaction, counters: Sequence[Counter]) -> Iterator[tuple[Counter, int]]:
        """Give each budget that has crossed a threshold, and the percentage, once among all processes."""
        for counter in counters:
            if counter.shown < THRESHOLDS[0]:
                continue
            passed = max((one for one in THRESHOLDS if one <= counter.percent), default=0)
            crossing = (*counter.key, counter.limit, passed)
            if passed and crossing not in self._announced:
                self._announced.add(crossing)
                if connection.execute(sql.INSERT_CROSSING, (*crossing, counter.end)).rowcount:
                    connection.execute(sql.DELETE_OLD_CROSSINGS, (int(self._now() * 1000) - _RETENTION_MS,))
                    yield counter, passed

    def _add_rows(self, connection: Transaction, counters: Sequence[Counter]) -> None:
        covering: dict[str, list[Counter]] = {}
        for row in connection.execute(sql.SPENDING, (self._last,)):
            key_id = row["key"]
            if key_id not in covering:
                covering[key_id] = [one for one in counters if _covers(one, key_id, row["name"], self._keys)]
            spending: Spending = spending_of(row["billing"], row["cost_micros"], row["tokens"])
            for counter in covering[key_id]:
                if counter.key.start <= row["at_ms"] < counter.end:
                    self._spent[counter.key] += spending[counter.measure]

    def _record(self, connection: Transaction, claims: Mapping[CounterKey, int]) -> None:
        """Record the changed slices of this process."""
        known = self._recorded
        changed = [(self._holder, *key, amount) for key, amount in claims.items() if known.get(key) != amount]
        connection.executemany(sql.PUT_SLICE, changed)
        connection.executemany(sql.DELETE_SLICE, [(self._holder, *key) for key in known if key not in claims])

    @cached_property
    def _holder(self) -> str:
        """An identity of this process, by which others see whether it still runs."""
        own = ProcessIdentity.own()
        return " ".join((str(own.pid), own.start, own.boot, secrets.token_hex(4)))

    def _others(self, connection: Transaction, shared_now: float | None) -> tuple[dict[CounterKey, int], int]:
        """Give the slices of other processes, and the number of processes with this one."""
        now = self._monotonic() if shared_now is None else shared_now
        seen = (int(now * 1000), self._holder)
        if not connection.execute(sql.SEE_HOLDER, seen).rowcount:
            connection.execute(sql.INSERT_HOLDER, seen)
            self._recorded = {}  # others have declared it dead
        dead = connection.execute(sql.DELETE_HOLDERS, (int((now - _DEAD) * 1000), int(now * 1000))).rowcount
        holders = [one for (one,) in connection.execute(sql.HOLDERS).fetchall()]
        for gone in [one for one in holders if one != self._holder and self._is_gone(one, is_here=shared_now is None)]:
            dead += connection.execute(sql.DELETE_HOLDER, (gone,)).rowcount
            holders.remove(gone)
        if dead:
            connection.execute(sql.DELETE_SLICES)
        rows = connection.execute(sql.SLICES, (self._holder,)).fetchall()
        alive = {CounterKey(row["budget"], row["start"]): row["amount"] for row in rows}
        return alive, len(holders)

    def _is_gone(self, holder: str, *, is_here: bool) -> bool:
        """Whether a process has certainly ended. Processes of other hosts are unknown."""
        pid, start, boot, _ = holder.split(" ")
        is_here = is_here or boot == ProcessIdentity.own().boot
        return is_here and ProcessIdentity(int(pid), start, boot).is_gone()
