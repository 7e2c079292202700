"""What tests of budgets share: keys, sizes, and a book that knows what it may use."""

from dataclasses import dataclass, field

from tokenferry.budgets import Budget, BudgetBook, BudgetRefusal, ModelPrice, RequestSize, Reservation
from tokenferry.prices import Price, TokenCounts
from tokenferry.settings import BudgetSettings

NOW = 1_793_500_000.0
A_DOLLAR = Price("", "", "", "test", (1_000_000, 1_000_000, 100_000, 1_250_000, 2_000_000, 0))
"""A dollar for a million tokens, so that a token is a micro-dollar."""


@dataclass(frozen=True)
class Key:
    id: str = "key_1"
    name: str = "laptop"
    labels: dict[str, str] = field(default_factory=dict)
    budgets: tuple[str, ...] = ()
    revoked_at: int | None = None


def size(tokens: int, key: str = "key_1", session: str = "") -> RequestSize:
    """A request that is estimated at so many tokens."""
    return RequestSize(key, "model", session, tokens * 4, 0)


def book_of(*settings: BudgetSettings) -> BudgetBook:
    """A book of budgets that the ledger knows nothing of yet, at a price of a micro-dollar a token."""
    book = BudgetBook(map(Budget.of, settings))
    book.estimates.learn(RequestSize("", "model", "", 0, None), TokenCounts(1), ModelPrice(A_DOLLAR, is_plan=False))
    return book


def read(book: BudgetBook, spent: int = 0, others: int = 0, holders: int = 1, written: tuple[str, ...] = ()) -> None:
    """Have the ledger say that every counter has spent so much."""
    keys = [counter.key for counter in book.counters()]
    book.exchange(dict.fromkeys(keys, spent), dict.fromkeys(keys, others), holders, written)


def taken(found: Reservation | BudgetRefusal | None) -> Reservation:
    assert isinstance(found, Reservation)
    return found


def refused(found: Reservation | BudgetRefusal | None) -> BudgetRefusal:
    assert isinstance(found, BudgetRefusal)
    return found
