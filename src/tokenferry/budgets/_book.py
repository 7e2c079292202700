"""The budgets in one process: reserved and settled on the event loop, updated by the ledger's thread."""

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
    """The parts of a client key that budgets use."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def budgets(self) -> Sequence[str]:
        """Its own limits, which are stored with it."""
        ...

    @property
    def revoked_at(self) -> int | None: ...


class Reservation(Struct, eq=False):
    """What a request reserved of each of its budgets, and after it is settled, what it used."""

    request_id: str
    size: RequestSize
    counters: Sequence[Counter]
    amounts: list[int]
    usage: Any = None
    """What the request used, once it has ended."""
    used: list[int] | None = None
    """None until it is settled, at the model's last price. The ledger's rows correct it later."""

    @property
    def most_consumed(self) -> Counter:
        """The budget of which the largest part is used."""
        most = self.counters[0]
        for counter in self.counters:
            if counter.shown > most.shown:
                most = counter
        return most


class BudgetRefusal(NamedTuple):
    """Why a request isn't sent. The causes `reserved` and `unknown` go away by themselves, the others don't."""

    counter: Counter
    cause: RefusalCause

    @property
    def is_final(self) -> bool:
        return self.cause in {"used_up", "too_large"}


def counters_at(
    budgets: Sequence[Budget], keys: Iterable[BudgetSubject], at: float, *, every_pool: bool
) -> list[Counter]:
    """The counters of these keys at a time, set to zero; with `every_pool` also pools that no key belongs to."""
    pools = [Counter(one, one.span(at)) for one in budgets if every_pool and one.settings.per == "pool"]
    counters = [*pools, *(counter for key in keys for counter in _counters(budgets, key, at))]
    return [*{counter.key: counter for counter in counters}.values()]


def _counters(budgets: Iterable[Budget], key: BudgetSubject, at: float) -> list[Counter]:
    """The counters of a key's requests at a time."""
    covering = [one for one in budgets if one.covers(key.id, key.name, key.labels)]
    covering += [Budget.of_key(key.id, text) for text in key.budgets]
    return [Counter(one, one.span(at), key.id if one.settings.per == "key" else "") for one in covering]


class _OfKey(NamedTuple):
    """The counters of a client key, valid while the key and their periods stay the same."""

    key: BudgetSubject
    start: float
    end: float
    counters: tuple[Counter, ...]


class BudgetBook:
    """The counters of all budgets in one process.

    `reserve` and `settle` are for the event loop; they wait only for a lock that the ledger's thread holds for
    microseconds. Times are seconds since 1970 UTC.
    """

    def __init__(
        self,
        budgets: Iterable[Budget] = (),
        *,
        refuses_away: bool = False,
        to_counts: Callable[[Any], TokenCounts] = lambda usage: usage,
    ) -> None:
        """With `refuses_away` each budget is as if its `on_error` said `refuse`.

        `to_counts` makes counts of what is given to `settle`.
        """
        self.estimates = UsageEstimates()
        self.wake: Callable[[], None] = lambda: None
        """Makes the ledger's thread call `exchange` soon."""
        self._to_counts = to_counts
        self._ended: deque[Reservation] = deque()
        """Ended requests, which are settled later: by the ledger's thread, or when room is short."""
        self.is_away = False
        """Whether the ledger was unavailable at the last exchange."""
        self._refuses_away = refuses_away
        self._budgets = tuple(map(self._strictly, budgets))
        self.is_active = bool(self._budgets)
        """Whether there is or was any budget."""
        self._lock = threading.Lock()
        self._counters: dict[CounterKey, Counter] = {}
        self._of_keys: dict[str, _OfKey] = {}
        self._unwritten: dict[str, Reservation] = {}
        self._holders = 1

    def adopt(self, budgets: Iterable[Budget], *, refuses_away: bool = False) -> None:
        """Use these from the next request on. A budget whose amount alone changes stays counted."""
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
        """The counters of a key's requests at a time."""
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
                    # Allow a small part until the ledger is read, in some milliseconds: the budget may be used up.
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
        """Reserve a request's estimated cost in each of its budgets, or give the refusal; None without budgets."""
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
        """Reserve when there is less room than the estimate, or none."""
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
            # The refusal that lasts longest, so that its message holds for all.
            return max(refusals, key=lambda one: (one.is_final, one.counter.end))
        return Reservation(request_id, size, counters, amounts)

    def _admit(self, counter: Counter, wanted: int) -> int | RefusalCause:  # noqa: PLR0911  # a list of rules
        """The amount to reserve, or the cause of a refusal. An estimate alone never refuses a request."""
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
        # With no request under way here, allow one, although others hold the rest.
        return min(wanted, limit - used) if counter.held == 0 else "reserved"

    def settle(self, reservation: Reservation, usage: object) -> None:
        """Replace an ended request's reservation by what it used. Does nothing the second time."""
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
            counts = self._to_counts(one.usage)
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
        """Every known counter, after settling all ended requests."""
        with self._lock:
            self._settle_ended()
            return [*self._counters.values()]

    def watch(self, keys: Iterable[BudgetSubject], at: float) -> None:
        """Make the counters of these keys before their first requests, and drop all others that hold nothing."""
        found = {key.id: self._entry(key, at) for key in keys}
        used = {counter.key for one in found.values() for counter in one.counters}
        with self._lock:
            self._of_keys = found
            self._counters = {key: one for key, one in self._counters.items() if key in used or one.held}

    def exchange(
        self, spent: Mapping[CounterKey, int], others: Mapping[CounterKey, int], holders: int, written: Iterable[str]
    ) -> None:
        """Update the spending from the ledger's rows, what other processes hold, and which requests are written."""
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
