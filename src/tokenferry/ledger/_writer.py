import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from msgspec import Struct

from tokenferry.background import PeriodicThread
from tokenferry.budgets import Budget, BudgetBook
from tokenferry.errors import TokenferryError
from tokenferry.ledger._budgets import BudgetExchange
from tokenferry.ledger._costs import CostCounters
from tokenferry.ledger._entry import LedgerEntry, WindowPoint
from tokenferry.ledger._ledger import Ledger
from tokenferry.prices import PriceTable
from tokenferry.settings import LedgerSettings

logger = logging.getLogger(__name__)

_Ended = TypeVar("_Ended")

_LIMIT: Final = 20_000
_BATCH: Final = 500
_PAUSE: Final = 0.1
_IDLE: Final = 60.0
_RETRY: Final = 10.0
_JUMP: Final = 3600.0
_PATIENCE: Final = 10.0


class LedgerStatistics(Struct, frozen=True):
    """The state of the ledger's writer. `lag` is the age of the oldest waiting request in seconds."""

    waiting: int = 0
    written: int = 0
    dropped: int = 0
    lag: float = 0.0
    to_delete: int = 0
    bytes: int = 0
    is_failing: bool = False


class LedgerWriter(PeriodicThread, Generic[_Ended]):
    """Writes ended requests to the ledger in batches, on its own thread.

    `add` takes no lock and does no I/O. If the ledger can't be written, a warning is logged. Up to 20,000 requests then
    wait, and later ones are dropped and counted. As a context manager it runs within the block and writes the rest at
    the end. A killed process loses less than a second.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Ledger],
        entry_of: Callable[[_Ended], LedgerEntry],
        prices: Callable[[], PriceTable],
        *,
        settings: LedgerSettings | None = None,
        points: Callable[[], Iterable[WindowPoint]] = tuple,
        budgets: BudgetExchange | None = None,
        limit: int = _LIMIT,
        pause: float = _PAUSE,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`entry_of`, `prices` and `points` are called on the thread. `points` gives new points of limit windows."""
        super().__init__(
            "tokenferry-ledger",
            self._cycle,
            _IDLE,
            pause=pause,
            at_end=True,
            trouble="usage is not recorded",
        )
        self._open = open_ledger
        self._entry_of = entry_of
        self._make_prices = prices
        self._prices: PriceTable | None = None
        self._settings = settings or LedgerSettings()
        self._points = points
        self.budgets = budgets or BudgetExchange(BudgetBook(), tuple)
        """The budgets of this process. `start` waits until they are read, if there are any."""
        self.budgets.book.wake = self.wake
        self.costs = CostCounters()
        """The costs of the requests that it has written."""
        self._limit = limit
        self._now, self._monotonic = now, monotonic
        self._clocks = (now(), monotonic())
        self._retained_at = -_JUMP
        self._ledger: Ledger | None = None
        self._queue: deque[_Ended] = deque()
        self._batch: list[LedgerEntry] = []
        self._failed: tuple[float, TokenferryError] | None = None
        self._written = self._dropped = self._reported = self._to_delete = self._bytes = 0

    def add(self, *ended: _Ended) -> None:
        """Queue ended requests, which must not change any more. An event loop may call it."""
        room = max(self._limit - len(self._queue), 0)
        self._dropped += max(len(ended) - room, 0)
        self._queue.extend(ended[:room])
        self.wake()

    def adopt(self, prices: Callable[[], PriceTable], settings: LedgerSettings, budgets: Iterable[Budget] = ()) -> None:
        """Apply new settings from the next batch on."""
        self._make_prices, self._prices, self._settings = prices, None, settings
        self.budgets.book.adopt(budgets, refuses_away=settings.on_store_away == "refuse")

    def start(self, before: Callable[[], object] = lambda: None) -> None:
        super().start(before)
        self.budgets.look()
        if self.budgets.book.is_active:
            self.wake()
            self.budgets.ready.wait(_PATIENCE)

    def statistics(self) -> LedgerStatistics:
        batch = self._batch[:1]
        return LedgerStatistics(
            waiting=len(self._queue) + len(self._batch),
            written=self._written,
            dropped=self._dropped,
            lag=max(self._now() - batch[0].at - batch[0].duration, 0.0) if batch else 0.0,
            to_delete=self._to_delete,
            bytes=self._bytes,
            is_failing=self._failed is not None,
        )

    def stop(self, wait: float = 5.0) -> None:
        self._failed = None  # the last cycle tries again
        super().stop(wait)
        if self._ledger is not None:
            with contextlib.suppress(TokenferryError):  # others forget this process after 30 seconds anyway
                self.budgets.leave(self._ledger)

    def _cycle(self) -> None:
        self.budgets.book.settle_ended()
        if self._dropped != self._reported:
            logger.warning("%d requests are missing in the ledger", self._dropped - self._reported)
            self._reported = self._dropped
        if (failed := self._failed) is not None and self._monotonic() - failed[0] < _RETRY:
            raise failed[1].with_traceback(None)  # as long as it fails it is logged once
        try:
            self._write()
        except TokenferryError as fault:
            self._failed = self._monotonic(), fault
            self.budgets.failed()
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
            raise
        except Exception:
            self._dropped += len(self._batch)  # a defect must not block later requests
            self._batch = []
            raise
        self._failed = None

    def _write(self) -> None:
        points = [*self._points()]
        self._fill()
        ledger = self._ledger
        if ledger is None:
            ledger = self._ledger = self._open()
        prices = self._prices
        if prices is None:
            prices = self._prices = self._make_prices()
        while self._batch or points:
            is_full = len(self._batch) == _BATCH
            self.costs.update(ledger.write(self._batch, prices, points))
            self._written += len(self._batch)
            self.budgets.learn(self._batch, prices)
            self._batch, points = [], []
            self._bytes = ledger.size
            if is_full:  # else what has ended since waits for the next time: small batches cost the most
                self._fill()
        self.budgets.exchange(ledger)
        self._interval = self.budgets.interval or _IDLE
        self._retain(ledger)

    def _fill(self) -> None:
        while self._queue and len(self._batch) < _BATCH:
            self._batch.append(self._entry_of(self._queue.popleft()))

    def _retain(self, ledger: Ledger) -> None:
        """Delete old rows, unless the clock was set: by a wrong clock everything may be old."""
        wall, steady = self._now(), self._monotonic()
        if steady - self._retained_at < _JUMP and not self._to_delete:
            return
        jumped = abs((wall - self._clocks[0]) - (steady - self._clocks[1]))
        self._clocks = (wall, steady)
        self._retained_at = steady
        if jumped > _JUMP:
            logger.warning(
                "the clock was set by %d minutes; nothing is deleted from the ledger for an hour", jumped // 60
            )
        else:
            self._to_delete = ledger.retain(self._settings, go_on=self._to_delete > 0)
