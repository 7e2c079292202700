import logging
import random
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenferry.errors import LockTimeout, StorageFailed
from tokenferry.fleet._heartbeat import Heartbeat
from tokenferry.fleet._tables import Tables

logger = logging.getLogger(__name__)

_POLL_FIRST: Final = 0.02
_POLL_LONGEST: Final = 0.5


class RowLock:
    """A lock as a row with an expiry, which works through any pooler and outlives no holder by more than 20 seconds.

    It spares work; that no refresh token is presented twice rests on the attempt's record alone. Each time it is
    taken it has another holder's name, so nobody renews or releases what another one took over.
    """

    def __init__(
        self, name: str, tables: Tables, heartbeat: Heartbeat, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._tables = tables
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._holder = ""

    def try_acquire(self) -> str | None:
        """Take it if it is free; gives the program that has it otherwise. Raises `StorageFailed`."""
        holder = secrets.token_hex(8)
        sent = self._monotonic()
        program = self._tables.take(self._name, holder, f"{Path(sys.argv[0] or 'python').name[:80]}")
        if program is None:
            self._heartbeat.hold(holder, sent)
            self._holder = holder
        return program

    def acquire(self, timeout: float) -> None:
        """Take the lock, waiting `timeout` seconds at most. Raises `LockTimeout`, and `StorageFailed`."""
        deadline = self._monotonic() + timeout
        pause = _POLL_FIRST
        while (program := self.try_acquire()) is not None:
            left = deadline - self._monotonic()
            if left <= 0:
                raise LockTimeout(f"{self._name} is in use by {program}; try again when it is done", holder=program)
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311  # spreads the waiters, guards nothing
            pause = min(pause * 1.5, _POLL_LONGEST)
        self._heartbeat.start()

    def is_still_ours(self) -> bool:
        """Whether it is held, and can't have lapsed."""
        return bool(self._holder) and self._heartbeat.holds(self._holder)

    def release(self) -> None:
        """Let go; harmless when it isn't held. Where the database is away it lapses by itself."""
        holder, self._holder = self._holder, ""
        if holder:
            self._heartbeat.let_go(holder)
            try:
                self._tables.release(self._name, holder)
            except StorageFailed as fault:
                logger.debug("the lock of %s lapses by itself: %s", self._name, fault)
