"""How much of one budget is used in one period, from the view of one process."""

from typing import Final, NamedTuple

from tokenferry.budgets._budget import Budget
from tokenferry.budgets._calendar import Span

THRESHOLDS: Final = (75, 95, 100)
"""Per cent of a budget whose crossing is announced; the first two are those at which Claude Code warns."""
_LEAST_SLICE: Final = {"usd": 500_000, "tokens": 100_000}
_QUARTER: Final = 4
_ANYTHING: Final = 1 << 62
_NEAR: Final = 4
"""Within the last sixteenth of a limit, ended requests are settled before the next reservation."""


class CounterKey(NamedTuple):
    """The identity of a counter in every process. It includes the period, so no counter is ever reset."""

    budget: str
    start: int
    """Of the period, in milliseconds since 1970 UTC."""


class Counter:
    """One budget in one period, for all its keys together, or for one (`key_id`). Amounts are of the limit's unit.

    `spent` is what the ledger has of it. This process adds `reserved`, of requests under way, and `unwritten`, of those
    that have ended and are not in the ledger yet. Both together may be as much as its `slice` of what is left.
    """

    __slots__ = (
        *("_basis", "_budget", "end", "is_known", "key", "key_id", "measure", "missing", "refusals", "reserved"),
        *("reset", "room", "shown", "slice", "spent", "unwritten"),
    )

    def __init__(self, budget: Budget, span: Span, key_id: str = "") -> None:
        self._budget = budget
        self.measure = budget.measure
        """Which of a `Spending` it counts."""
        self.key_id = key_id
        self.key = CounterKey(f"{budget.identity}|{key_id}", span.start)
        self.end = span.end
        self.reset = None if budget.limit.period == "total" else span.end // 1000
        """When the next period begins, in seconds since 1970 UTC."""
        self.shown = 0
        """Per cent used at the last `look`."""
        self.spent = self.reserved = self.unwritten = self.refusals = 0
        self.slice = self.missing = 0
        """What this process may use, and the largest amount that it lacked since the last exchange."""
        self.room = -1
        """What may be reserved without a further check; negative if a check is always necessary."""
        self.is_known = False
        """Whether the ledger was read."""
        self._basis: tuple[int, ...] = ()
        """The values from which the slice was computed."""

    def __repr__(self) -> str:
        return f"Counter({self.key.budget!r}, {self.used} of {self.limit})"

    @property
    def budget(self) -> Budget:
        return self._budget

    def apply(self, budget: Budget) -> None:
        """Take the same budget with another amount, mode or message."""
        self._budget = budget
        self.look()

    def look(self) -> None:
        """Compute the room again, after any change."""
        settings, self.shown = self._budget.settings, self.percent
        if settings.mode == "warn":
            self.room = _ANYTHING
            return
        room = self.slice - self.held
        is_near = room <= min(self.limit >> _NEAR, self.slice >> 1)
        self.room = -1 if is_near or not (self.is_known or settings.on_error == "allow") else room

    @property
    def limit(self) -> int:
        return self._budget.limit.amount

    @property
    def held(self) -> int:
        """What this process has used or reserved that isn't in the ledger yet."""
        return self.reserved + self.unwritten

    @property
    def used(self) -> int:
        """All that is known to be used, without reservations."""
        return self.spent + self.unwritten

    @property
    def percent(self) -> int:
        """How much is used; it may exceed 100."""
        return self.used * 100 // self.limit if self.limit else 100

    @property
    def is_used_up(self) -> bool:
        """Whether the ledger's rows use it up; unwritten usage may turn out to be less."""
        return self.spent >= self.limit

    def is_stale(self, spent: int, others: int, holders: int) -> bool:
        """Whether `cut` with these values would change anything."""
        return self.missing > 0 or self._basis != self._basis_of(spent, others, holders)

    def cut(self, spent: int, others: int, holders: int) -> None:
        """Take the new spending and what others hold, and compute the slice again."""
        self._basis = self._basis_of(spent, others, holders)
        self.spent, self.is_known = spent, True
        self.slice = self._slice_of(others, holders)
        self.missing = 0
        self.look()

    @property
    def claim(self) -> int:
        """What other processes must leave to this one: its slice, or its requests under way if they need more."""
        return max(self.slice, self.held)

    def _basis_of(self, spent: int, others: int, holders: int) -> tuple[int, ...]:
        return spent, others, holders, self.limit, self.held if holders > 1 else 0

    def _slice_of(self, others: int, holders: int) -> int:
        """This process's slice, when others hold `others` and `holders` processes run.

        A single process gets everything. Of several, each gets a quarter of its even share at a time, and less near
        the limit, so that the others can use what it doesn't.
        """
        free = max(self.limit - self.spent - others, 0)
        if holders <= 1:
            return free
        share = max(self.limit // (_QUARTER * holders), _LEAST_SLICE[self.budget.limit.unit])
        wanted = self.held + max(min(share, free // (2 * holders)), self.missing)
        return min(wanted, free)
