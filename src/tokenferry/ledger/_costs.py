"""What the requests cost that this process has written, for metrics."""

from collections import Counter
from typing import Final, Literal, NamedTuple, TypeAlias

from tokenferry.ledger._entry import Billing, LedgerEntry
from tokenferry.prices import Price

PriceSource: TypeAlias = Literal["list", "config", "unknown"]
"""Where a price is from: the dated table, `[[prices]]`, or nowhere, so that it counts as that of an unknown model."""

_MOST: Final = 2000
_OTHER: Final = "other"


class CostRoute(NamedTuple):
    """The labels by which costs are counted."""

    provider: str
    account: str
    model: str
    billing: Billing
    source: PriceSource


class CostCounters:
    """Sums of micro-dollars, by route and by client key. One thread adds; others copy what they read."""

    def __init__(self) -> None:
        self.routes: Counter[CostRoute] = Counter()
        self.keys: Counter[str] = Counter()

    def add(self, entry: LedgerEntry, price: Price, micros: int) -> None:
        """Count what a request cost; beyond 2,000 routes or keys further ones are `other`."""
        source: PriceSource = "unknown" if not price.is_known else "config" if price.is_declared else "list"
        route = CostRoute(entry.provider, entry.account, entry.model, entry.billing, source)
        if route not in self.routes and len(self.routes) >= _MOST:
            route = route._replace(model=_OTHER)
        self.routes[route] += micros
        self.keys[entry.key_name if entry.key_name in self.keys or len(self.keys) < _MOST else _OTHER] += micros

    def update(self, others: "CostCounters") -> None:
        """Add what others have."""
        self.routes.update(others.routes)
        self.keys.update(others.keys)
