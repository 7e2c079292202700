"""What people look at, as values: nothing here prints, renders or changes anything. For the dashboard and commands."""

from tokenferry.views._books import LedgerReader
from tokenferry.views._now import Figure, Need, NowView, Provenance, now_view
from tokenferry.views._own_usage import OwnUsage, own_usage
from tokenferry.views._windows import WindowShare, open_windows

__all__ = [
    "Figure",
    "LedgerReader",
    "Need",
    "NowView",
    "OwnUsage",
    "Provenance",
    "WindowShare",
    "now_view",
    "open_windows",
    "own_usage",
]
