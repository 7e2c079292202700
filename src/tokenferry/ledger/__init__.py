"""The ledger: usage and cost of each request, with sums by hour and day, in `ledger.db` (SQLite) or PostgreSQL."""

from tokenferry.ledger._budgets import BudgetExchange, BudgetState, spent_of
from tokenferry.ledger._copy import copy_ledger
from tokenferry.ledger._costs import CostCounters, CostRoute, Spent, cost_route
from tokenferry.ledger._entry import Billing, LedgerEntry, OtherModel, WindowPoint
from tokenferry.ledger._ledger import Ledger
from tokenferry.ledger._periods import Grain, Period, periods
from tokenferry.ledger._report import DIMENSIONS, Dimension, Usage, UsageReport, UsageRow, total
from tokenferry.ledger._traffic import (
    SeriesBy,
    SeriesPoint,
    SeriesUnit,
    SessionRow,
    TrafficCursor,
    TrafficFilter,
    TrafficOrder,
    TrafficPage,
    TrafficReport,
    TrafficRow,
    TrafficSeries,
)
from tokenferry.ledger._windows import WindowHistory
from tokenferry.ledger._writer import LedgerStatistics, LedgerWriter

__all__ = [
    "DIMENSIONS",
    "Billing",
    "BudgetExchange",
    "BudgetState",
    "CostCounters",
    "CostRoute",
    "Dimension",
    "Grain",
    "Ledger",
    "LedgerEntry",
    "LedgerStatistics",
    "LedgerWriter",
    "OtherModel",
    "Period",
    "SeriesBy",
    "SeriesPoint",
    "SeriesUnit",
    "SessionRow",
    "Spent",
    "TrafficCursor",
    "TrafficFilter",
    "TrafficOrder",
    "TrafficPage",
    "TrafficReport",
    "TrafficRow",
    "TrafficSeries",
    "Usage",
    "UsageReport",
    "UsageRow",
    "WindowHistory",
    "WindowPoint",
    "copy_ledger",
    "cost_route",
    "periods",
    "spent_of",
    "total",
]
