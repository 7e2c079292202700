"""What was used, by which key, account and model, at what price: `ledger.db` (SQLite), a file of its own."""

from tokenferry.ledger._entry import Billing, LedgerEntry, OtherModel, WindowPoint
from tokenferry.ledger._ledger import Ledger, Retention
from tokenferry.ledger._windows import WindowHistory
from tokenferry.ledger._writer import LedgerStatistics, LedgerWriter

__all__ = [
    "Billing",
    "Ledger",
    "LedgerEntry",
    "LedgerStatistics",
    "LedgerWriter",
    "OtherModel",
    "Retention",
    "WindowHistory",
    "WindowPoint",
]
