import logging
import os
import random
import secrets
import socket
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
_POLL_LONGEST: Final = 1.0


class RowLock:
    """A lock as a row with an expiry. It works through any pooler, and lapses 20 seconds after its holder's end.

    It only saves work: the attempt's record alone ensures that no refresh token is presented twice. Each acquisition
    has another holder's name, so that no process renews or releases a lock that another one has taken over.
    """

    def __init__(
        self, name: str, tables: Tables, heartbeat: Heartbeat, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._tables = tables
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._holder = ""
        self._program = ""
        self._pause = _POLL_FIRST
        self._next = 0.0
        """When to ask next (monotonic). A waiter asks less and less often."""

    def try_acquire(self) -> str | None:
        """Take the lock if it is free; otherwise give its holder. Raises `StorageFailed`."""
        holder = secrets.token_hex(8)
        sent = self._monotonic()
        program = self._tables.take(
            self._name,
            holder,
            f"process {os.getpid()} ({Path(sys.argv[0] or 'python').name[:80]}) of {socket.gethostname()[:80]}",
        )
        if program is None:
            self._heartbeat.hold(holder, sent)
            self._holder = holder
        return program

    def acquire(self, timeout: float) -> None:
        """Take the lock, waiting up to `timeout` seconds. Raises `LockTimeout`, `StorageFailed`."""
        self._heartbeat.start()
        deadline = self._monotonic() + timeout
        while True:
            now = self._monotonic()
            if now >= self._next:
                program = self.try_acquire()
                if program is None:
                    return
                self._program = program
                self._next = now + self._pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads them, guards nothing
                self._pause = min(self._pause * 1.5, _POLL_LONGEST)
            if now >= deadline:
                message = f"account {self._name!r} is in use by {self._program}; try again when it is done"
                raise LockTimeout(message, holder=self._program)
            time.sleep(max(0.0, min(deadline, self._next) - now))

    def is_still_ours(self) -> bool:
        """Tell whether it is held, and can't have lapsed."""
        return bool(self._holder) and self._heartbeat.holds(self._holder)

    def release(self) -> None:
        """Release it; do nothing if it isn't held. While the database is away it lapses by itself."""
        holder, self._holder = self._holder, ""
        if holder:
            self._heartbeat.let_go(holder)
            try:
                self._tables.release(self._name, holder)
            except StorageFailed as fault:
                logger.debug("the lock of %s lapses by itself: %s", self._name, fault)
