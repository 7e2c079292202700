"""Prices of tokens: a dated table of list prices, and the operator's own. The package is pure."""

from tokenferry.prices._price import Price, TokenCounts
from tokenferry.prices._table import UNKNOWN, PriceTable

__all__ = ["UNKNOWN", "Price", "PriceTable", "TokenCounts"]
