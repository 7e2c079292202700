import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final, TypeVar, cast

from tokenferry.databases import has_ledger, open_ledger
from tokenferry.errors import TokenferryError
from tokenferry.ledger import Ledger, TrafficReport, UsageReport
from tokenferry.settings import Home

_Found = TypeVar("_Found")
_MOST_REMEMBERED: Final = 64


class LedgerReader:
    """Opens a home's ledger once it exists, and keeps it open for views. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = Lock()
        self._ledger: Ledger | None = None
        self._remembered: dict[Hashable, tuple[float, object]] = {}

    def ledger(self) -> Ledger | None:
        """Return the ledger, or None. Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`."""
        with self._lock:
            if self._ledger is None and has_ledger(self._home):
                self._ledger = open_ledger(self._home)
            return self._ledger

    def traffic(self) -> TrafficReport | None:
        """Return the report of single requests; None without a ledger. Raises what `ledger` raises."""
        ledger = self.ledger()
        return None if ledger is None else TrafficReport(ledger)

    def usage(self) -> UsageReport | None:
        """Return the report of usage; None without a ledger. Raises what `ledger` raises."""
        ledger = self.ledger()
        return None if ledger is None else UsageReport(ledger)

    def remembered(self, name: Hashable, make: Callable[[], _Found], seconds: float = 15.0) -> _Found:
        """Return the result of `make` for this name, cached for these seconds; for expensive sums."""
        now = time.monotonic()
        with self._lock:
            known = self._remembered.get(name)
        if known is not None and now - known[0] < seconds:
            return cast("_Found", known[1])
        found = make()
        with self._lock:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[name] = now, found
        return found

    def fault(self) -> str:
        """Say why the ledger can't be read; empty if it can, or doesn't exist."""
        try:
            self.ledger()
        except TokenferryError as fault:
            return str(fault)
        return ""

    def close(self) -> None:
        """Close the file; the next reader opens it again."""
        with self._lock:
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
