"""Costs of the requests that this process has written, for metrics."""

from typing import Final, Literal, TypeAlias

from tokenferry.ledger._entry import Billing, LedgerEntry
from tokenferry.prices import Price

PriceSource: TypeAlias = Literal["list", "config", "unknown"]
"""The source of a price: the dated table, `[[prices]]`, or none."""
CostRoute: TypeAlias = tuple[str, str, str, Billing, PriceSource]
"""Provider, account, model, billing, and source of the price."""
Spent: TypeAlias = dict[tuple[CostRoute, str], int]
"""Micro-dollars by route and name of the client key."""

_SOURCES: Final[dict[str, PriceSource]] = {"config.toml": "config", "unknown": "unknown"}
_MOST: Final = 2000
_OTHER: Final = "other"


class CostCounters:
    """Sums of micro-dollars by route and by client key. One thread writes; others copy before they read.

    Beyond 2,000 routes or keys, further ones count as `other`.
    """

    def __init__(self) -> None:
        self.routes: dict[CostRoute, int] = {}
        self.keys: dict[str, int] = {}

    def update(self, spent: Spent) -> None:
        """Add the costs of requests."""
        for (route, key), micros in spent.items():
            if route not in self.routes and len(self.routes) >= _MOST:
                route = (*route[:2], _OTHER, *route[3:])  # noqa: PLW2901  # counted as other
            if key not in self.keys and len(self.keys) >= _MOST:
                key = _OTHER  # noqa: PLW2901  # as above
            self.routes[route] = self.routes.get(route, 0) + micros
            self.keys[key] = self.keys.get(key, 0) + micros


def cost_route(entry: LedgerEntry, price: Price) -> CostRoute:
    return entry.provider, entry.account, entry.model, entry.billing, _SOURCES.get(price.source, "list")
