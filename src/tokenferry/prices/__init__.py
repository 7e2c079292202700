"""What tokens cost: a dated table of list prices, and what the operator declares over it. Pure."""

from tokenferry.prices._price import Price, TokenCounts
from tokenferry.prices._table import UNKNOWN, PriceTable

__all__ = ["UNKNOWN", "Price", "PriceTable", "TokenCounts"]
