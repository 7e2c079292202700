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
    """The ledger of a home for views: opened once there is one, and left open. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock = Lock()
        self._ledger: Ledger | None = None
        self._remembered: dict[Hashable, tuple[float, object]] = {}

    def ledger(self) -> Ledger | None:
        """None where nothing was written yet. Raises `UnsafeFile`, `CorruptFile`, `StorageFailed`."""
        with self._lock:
            if self._ledger is None and has_ledger(self._home):
                self._ledger = open_ledger(self._home)
            return self._ledger

    def traffic(self) -> TrafficReport | None:
        """Single requests; None where there are none. Raises what `ledger` does."""
        ledger = self.ledger()
        return None if ledger is None else TrafficReport(ledger)

    def usage(self) -> UsageReport | None:
        """What was used; None where nothing was. Raises what `ledger` does."""
        ledger = self.ledger()
        return None if ledger is None else UsageReport(ledger)

    def remembered(self, name: Hashable, make: Callable[[], _Found], seconds: float = 15.0) -> _Found:
        """What `make` gave for this name within the last seconds, else what it gives now: for sums of long times."""
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
        """Why it can't be read; empty where it can, or is not there."""
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
