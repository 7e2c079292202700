import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

from tokenferry.background import PeriodicThread, after_fork_in_child
from tokenferry.errors import TokenferryError
from tokenferry.fleet._tables import LOCK_SECONDS, Epoch, Tables, withdraw
from tokenferry.refresh import RefreshAttempt

_EVERY: Final = 5.0
_REPLAYS_EVERY: Final = 6
"""Heartbeats between two checks of what a failover may have lost."""
_WITHDRAWALS: Final = 12
"""For how many heartbeats the withdrawal of an attempt is repeated, since its commit may be late."""


class Heartbeat:
    """Renews this process's locks and attempts, and starts the replay of what a failover lost.

    A failed heartbeat has no effect by itself: locks and attempts lapse by the database's clock, and here no later than
    after the last heartbeat that was sent.
    """

    def __init__(
        self,
        tables: Tables,
        replay: Callable[[], object],
        appear: Callable[[Epoch], object] = lambda _: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._replay = replay
        self._appear = appear
        self._monotonic = monotonic
        self._now = now
        self._thread = PeriodicThread("tokenferry-heartbeat", self.beat, _EVERY, weak=True)
        self.offset = 0.0
        """Seconds that the database's clock is ahead of this host's."""
        self.sealed_with: str | None = None
        """The key that seals accounts, as last read; see `Epoch`."""
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._deadlines: dict[str, float] = {}
        self._attempts: set[str] = set()
        self._unsure: dict[str, tuple[str, RefreshAttempt, int]] = {}
        self._epoch = 0
        self._beats = 0

    def start(self) -> None:
        """Send a heartbeat every 5 seconds on a daemon thread, the first one at once, since a command may be short."""
        self._thread.start(self._begin)

    def _begin(self) -> None:
        with contextlib.suppress(TokenferryError):
            self.beat()

    def hold(self, holder: str, sent: float) -> None:
        """Note that a lock was taken by a statement that was sent at this time (monotonic)."""
        self._deadlines[holder] = sent + LOCK_SECONDS

    def holds(self, holder: str) -> bool:
        """Tell whether a lock is certainly held, so that no other process can have it."""
        return self._deadlines.get(holder, 0.0) > self._monotonic()

    def let_go(self, holder: str) -> None:
        self._deadlines.pop(holder, None)

    def keep(self, attempt: str) -> None:
        """Renew an attempt until `drop`."""
        self._attempts.add(attempt)

    def drop(self, attempt: str) -> None:
        self._attempts.discard(attempt)

    def withdraw(self, name: str, attempt: RefreshAttempt) -> None:
        """Remove an attempt that may be recorded, and of which nothing is sent."""
        self._unsure[attempt.id] = name, attempt, _WITHDRAWALS

    def measure(self) -> Epoch:
        """Read the epoch, and measure the offset of the clocks. Raises `StorageFailed`."""
        epoch = self._tables.epoch()
        self.offset = epoch.now - self._now()
        self.sealed_with = epoch.sealed_with
        return epoch

    def beat(self) -> None:
        """Do all of this once. Raises `StorageFailed`."""
        with self._guard:
            holders, attempts = tuple(self._deadlines), tuple(self._attempts)
            if holders or attempts:
                sent = self._monotonic()
                held = self._tables.renew(holders, attempts)
                for holder in holders:
                    if holder in held and holder in self._deadlines:
                        self.hold(holder, sent)
                    elif holder not in held:
                        self.let_go(holder)
            for name, attempt, left in list(self._unsure.values()):
                withdraw(self._tables, name, attempt)
                self._unsure[attempt.id] = name, attempt, left - 1
                if left <= 1:
                    del self._unsure[attempt.id]
            epoch = self.measure()
            self._appear(epoch)
            is_due = self._beats % _REPLAYS_EVERY == 0 or epoch.hold_off > 0 or epoch.number != self._epoch
            self._beats += 1
            if is_due:
                self._replay()
            self._epoch = epoch.number
