"""What one process reserves and settles of each budget, on the event loop; the ledger's thread brings it news."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Struct

from tokenferry.budgets._budget import Budget, Spending
from tokenferry.budgets._counter import Counter, CounterKey
from tokenferry.budgets._estimates import RequestSize, UsageEstimates
from tokenferry.prices import TokenCounts

RefusalCause: TypeAlias = Literal["used_up", "too_large", "reserved", "unknown"]

_MOST_UNWRITTEN: Final = 20_000
_MOST_ENDED: Final = 1000
_FIRST_PART: Final = 16
_NOTHING: Final = Spending()


class BudgetSubject(Protocol):
    """A client key, as far as a budget may name it."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def budgets(self) -> Sequence[str]:
        """The limits that are stored with it."""
        ...

    @property
    def revoked_at(self) -> int | None: ...


class Reservation(Struct, eq=False):
    """What a request has reserved of each of its budgets, and once it is settled what it has used of them."""

    request_id: str
    size: RequestSize
    counters: Sequence[Counter]
    amounts: list[int]
    usage: Any = None
    """What the request used, once it has ended."""
    used: list[int] | None = None
    """None until it is settled. Settled by what a model cost last; the ledger's rows have the last word."""

    @property
    def most_consumed(self) -> Counter:
        """The budget of which the largest part is used."""
        most = self.counters[0]
        for counter in self.counters:
            if counter.shown > most.shown:
                most = counter
        return most


class BudgetRefusal(NamedTuple):
    """Why a request isn't sent: `reserved` and `unknown` pass by themselves, the others don't."""

    counter: Counter
    cause: RefusalCause

    @property
    def is_final(self) -> bool:
        return self.cause in {"used_up", "too_large"}


def counters_at(
    budgets: Sequence[Budget], keys: Iterable[BudgetSubject], at: float, *, every_pool: bool
) -> list[Counter]:
    """Those of these keys at a time, at zero; with `every_pool` also those that count no key yet."""
    pools = [Counter(one, one.span(at)) for one in budgets if every_pool and one.settings.per == "pool"]
    counters = [*pools, *(counter for key in keys for counter in _counters(budgets, key, at))]
    return [*{counter.key: counter for counter in counters}.values()]


def _counters(budgets: Iterable[Budget], key: BudgetSubject, at: float) -> list[Counter]:
    """What the requests of a key count for at a time."""
    covering = [one for one in budgets if one.covers(key.id, key.name, key.labels)]
    covering += [Budget.of_key(key.id, text) for text in key.budgets]
    return [Counter(one, one.span(at), key.id if one.settings.per == "key" else "") for one in covering]


class _OfKey(NamedTuple):
    """The counters of a client key, as long as it and their periods stay the same."""

    key: BudgetSubject
    start: float
    end: float
    counters: tuple[Counter, ...]


class BudgetBook:
    """The counters of all budgets in one process.

    `reserve` and `settle` are for the event loop; what they wait for is a lock that the ledger's thread holds for
    microseconds. Times are seconds since 1970 UTC.
    """

    def __init__(
        self,
        budgets: Iterable[Budget] = (),
        *,
        refuses_away: bool = False,
        counts_of: Callable[[Any], TokenCounts] = lambda usage: usage,
    ) -> None:
        """With `refuses_away` each budget is as if its `on_error` said `refuse`.

        `counts_of` makes counts of what is given to `settle`.
        """
        self.estimates = UsageEstimates()
        self.wake: Callable[[], None] = lambda: None
        """Has the ledger's thread exchange soon."""
        self._counts_of = counts_of
        self._ended: deque[Reservation] = deque()
        """What has ended, and is settled when it matters: by the ledger's thread, or when room is short."""
        self.is_away = False
        """Whether the ledger could not be used the last time."""
        self._refuses_away = refuses_away
        self._budgets = tuple(map(self._strictly, budgets))
        self.is_active = bool(self._budgets)
        """Whether there is anything to count, or was."""
        self._lock = threading.Lock()
        self._counters: dict[CounterKey, Counter] = {}
        self._of_keys: dict[str, _OfKey] = {}
        self._unwritten: dict[str, Reservation] = {}
        self._holders = 1

    def adopt(self, budgets: Iterable[Budget], *, refuses_away: bool = False) -> None:
        """Go by these from the next request on. What is used of one that only changes its amount stays counted."""
        with self._lock:
            self._refuses_away = refuses_away
            self._budgets = tuple(map(self._strictly, budgets))
            self.is_active = self.is_active or bool(self._budgets)
            self._of_keys.clear()
            by_identity = {budget.identity: budget for budget in self._budgets}
            for counter in self._counters.values():
                counter.apply(by_identity.get(counter.budget.identity, counter.budget))
        self.wake()

    def _strictly(self, budget: Budget) -> Budget:
        return budget.refusing() if self._refuses_away else budget

    def counters_of(self, key: BudgetSubject, at: float) -> tuple[Counter, ...]:
        """Those that the requests of a key count for at a time."""
        return self._entry(key, at).counters

    def _entry(self, key: BudgetSubject, at: float) -> _OfKey:
        known = self._of_keys.get(key.id)
        if known is not None and known.key is key and known.start <= at < known.end:
            return known
        return self._find(key, at)

    def _find(self, key: BudgetSubject, at: float) -> _OfKey:
        found = _counters(self._budgets, key, at)
        counters, start, end = [], 0, 1 << 62
        with self._lock:
            self.is_active = self.is_active or bool(found)
            for counter in found:
                known = self._counters.get(counter.key)
                if known is None:
                    # Until the ledger was read, in some milliseconds, it may use a small part: all may be used up.
                    counter.slice = counter.limit // _FIRST_PART // self._holders
                    known = self._counters[counter.key] = counter
                known.apply(self._strictly(counter.budget))
                counters.append(known)
                start, end = max(start, counter.key.start), min(end, counter.end)
            mine = self._of_keys[key.id] = _OfKey(key, start / 1000, end / 1000, tuple(counters))
        if not all(one.is_known for one in counters):
            self.wake()
        return mine

    # On the event loop.

    def reserve(
        self, key: BudgetSubject, size: RequestSize, at: float, request_id: str
    ) -> Reservation | BudgetRefusal | None:
        """Take what a request may cost out of each of its budgets, or say which one refuses it; None without any."""
        counters = self._entry(key, at).counters
        if not counters:
            return None
        estimate = self.estimates.estimate(size)
        with self._lock:
            for counter in counters:
                if counter.room < estimate[counter.measure]:
                    break
            else:
                amounts = []
                for counter in counters:
                    amount = estimate[counter.measure]
                    counter.room -= amount
                    counter.reserved += amount
                    amounts.append(amount)
                return Reservation(request_id, size, counters, amounts)
        return self._reserve_what_is_left(counters, estimate, size, request_id)

    def _reserve_what_is_left(
        self, counters: Sequence[Counter], estimate: Spending, size: RequestSize, request_id: str
    ) -> Reservation | BudgetRefusal:
        """The same where there is less room than was estimated, or none."""
        amounts, refusals = [], []
        with self._lock:
            self._settle_ended()
            for counter in counters:
                admitted = self._admit(counter, estimate[counter.measure])
                if isinstance(admitted, int):
                    amounts.append(admitted)
                else:
                    counter.refusals += 1
                    refusals.append(BudgetRefusal(counter, admitted))
            if not refusals:
                for counter, amount in zip(counters, amounts, strict=True):
                    counter.reserved += amount
                    counter.look()
        if refusals:
            # The one that lasts the longest: what is said must be true of all.
            return max(refusals, key=lambda one: (one.is_final, one.counter.end))
        return Reservation(request_id, size, counters, amounts)

    def _admit(self, counter: Counter, wanted: int) -> int | RefusalCause:  # noqa: PLR0911  # a list of rules
        """The amount to reserve, which an estimate alone never makes a refusal of; or why there is nothing."""
        settings = counter.budget.settings
        if settings.mode == "warn":
            return wanted
        used, limit = counter.used, counter.limit
        if self.is_away and not counter.is_known and settings.on_error == "refuse":
            return "unknown"
        if counter.is_used_up or (self.is_away and used >= limit):
            return "used_up"
        if settings.strict and wanted > limit - used:
            return "too_large"
        left = counter.slice - counter.held
        if left < wanted:
            counter.missing = max(counter.missing, wanted - max(left, 0))
            self.wake()
        if left >= wanted or (left > 0 and counter.is_known and not settings.strict):
            return min(wanted, left)
        if self.is_away:
            return wanted if settings.on_error == "allow" else "unknown"
        # With nothing under way here a single request may go, though others hold what is left.
        return min(wanted, limit - used) if counter.held == 0 else "reserved"

    def settle(self, reservation: Reservation, usage: object) -> None:
        """A request has ended: what it used takes the place of what it reserved. Harmless the second time."""
        if reservation.usage is None:
            reservation.usage = usage
            self._ended.append(reservation)
            if len(self._ended) > _MOST_ENDED:
                self.settle_ended()

    def settle_ended(self) -> None:
        """Settle every request that has ended. From any thread."""
        with self._lock:
            self._settle_ended()

    def _settle_ended(self) -> None:
        changed: set[Counter] = set()
        while self._ended:
            one = self._ended.popleft()
            counts = self._counts_of(one.usage)
            used = self.estimates.spending(one.size.model, counts) if any(counts) else _NOTHING
            one.used = []
            for counter, reserved in zip(one.counters, one.amounts, strict=True):
                amount = used[counter.measure]
                one.used.append(amount)
                counter.reserved -= reserved
                counter.unwritten += amount
            changed.update(one.counters)
            if used is not _NOTHING and len(self._unwritten) < _MOST_UNWRITTEN:
                self._unwritten[one.request_id] = one
        for counter in changed:
            counter.look()

    # On the ledger's thread.

    def counters(self) -> list[Counter]:
        """Every counter that is known, with all that has ended settled."""
        with self._lock:
            self._settle_ended()
            return [*self._counters.values()]

    def watch(self, keys: Iterable[BudgetSubject], at: float) -> None:
        """Know the counters of these keys before their first requests, and forget all others that hold nothing."""
        found = {key.id: self._entry(key, at) for key in keys}
        used = {counter.key for one in found.values() for counter in one.counters}
        with self._lock:
            self._of_keys = found
            self._counters = {key: one for key, one in self._counters.items() if key in used or one.held}

    def exchange(
        self, spent: Mapping[CounterKey, int], others: Mapping[CounterKey, int], holders: int, written: Iterable[str]
    ) -> None:
        """Learn what is spent by the ledger's rows, what other processes hold, and which requests have been written."""
        stale = [
            (counter, amount, others.get(key, 0))
            for key, amount in spent.items()
            if (counter := self._counters[key]).is_stale(amount, others.get(key, 0), holders)
        ]
        with self._lock:
            self._holders, self.is_away = holders, False
            self._settle_ended()
            for request_id in written:
                if (one := self._unwritten.pop(request_id, None)) is not None:
                    for counter, amount in zip(one.counters, one.used or (), strict=True):
                        counter.unwritten -= amount
            for counter, amount, other in stale:
                counter.cut(amount, other, holders)
