"""What the requests cost that this process has written, for metrics."""

from typing import Final, Literal, TypeAlias

from tokenferry.ledger._entry import Billing, LedgerEntry
from tokenferry.prices import Price

PriceSource: TypeAlias = Literal["list", "config", "unknown"]
"""Where a price is from: the dated table, `[[prices]]`, or nowhere, so that it counts as that of an unknown model."""
CostRoute: TypeAlias = tuple[str, str, str, Billing, PriceSource]
"""Provider, account, model, how it is paid for, and where its price is from."""

_SOURCES: Final[dict[str, PriceSource]] = {"config.toml": "config", "unknown": "unknown"}
_MOST: Final = 2000
_OTHER: Final = "other"


class CostCounters:
    """Sums of micro-dollars, by route and by client key. One thread adds; others copy what they read.

    Beyond 2,000 routes or keys further ones are `other`.
    """

    def __init__(self) -> None:
        self.routes: dict[CostRoute, int] = {}
        self.keys: dict[str, int] = {}

    def add(self, entry: LedgerEntry, price: Price, micros: int) -> None:
        """Count what a request cost."""
        source = _SOURCES.get(price.source, "list")
        self._add_route((entry.provider, entry.account, entry.model, entry.billing, source), micros)
        self._add_key(entry.key_name, micros)

    def update(self, others: "CostCounters") -> None:
        """Add what others have."""
        for route, micros in others.routes.items():
            self._add_route(route, micros)
        for key, micros in others.keys.items():
            self._add_key(key, micros)

    def _add_route(self, route: CostRoute, micros: int) -> None:
        if route not in self.routes and len(self.routes) >= _MOST:
            route = (*route[:2], _OTHER, *route[3:])
        self.routes[route] = self.routes.get(route, 0) + micros

    def _add_key(self, key: str, micros: int) -> None:
        if key not in self.keys and len(self.keys) >= _MOST:
            key = _OTHER
        self.keys[key] = self.keys.get(key, 0) + micros
