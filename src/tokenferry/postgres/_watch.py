import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from msgspec.structs import replace

from tokenferry.errors import TokenferryError
from tokenferry.postgres._connections import GLANCE_SECONDS, ConnectionPool, PostgresConnection
from tokenferry.settings import StoreSettings

logger = logging.getLogger(__name__)

_CHANNEL: Final = "tokenferry"
_LOOK: Final = 0.5
"""The longest that it waits for a notice before it sees whether it should end."""
_POLL: Final = 2.0
_POLL_POOLED: Final = 1.0
"""Behind a pooler notices would go to others."""
_SILENT: Final = _POLL + GLANCE_SECONDS + 1.0
"""A server that froze while a table was read counts as away before that reading ends."""
_COALESCE: Final = 0.01
_BACK_OFF: Final = (0.1, 5.0)


class RevisionWatch:
    """Knows which tables have changed, by notices and by asking, and has their readers read them, on its own thread.

    Notices are for speed alone: every 2 seconds (1 behind a pooler) the numbers in `revisions` are asked for, and
    these are the truth. While the database is away what was read last counts, for `serve_stale` seconds; then those
    who follow a table are called to forget it.
    """

    def __init__(
        self,
        connections: ConnectionPool,
        settings: StoreSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        own = settings.listen_url
        self._source = connections if own is None else ConnectionPool(replace(settings, url=own, listen_url=None))
        self._listens = not self._source.facts().is_pooled
        self._serve_stale = settings.serve_stale
        self._monotonic = monotonic
        self._rng = rng or Random()  # noqa: S311  # it spreads waits
        self._readers: dict[str, list[Callable[[], object]]] = defaultdict(list)
        self._forgetters: list[Callable[[], object]] = []
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen_at = monotonic()
        self._is_away = self._is_stale = False
        self.numbers: Mapping[str, int] = {}
        """By table, as they were when its readers last read it."""

    def follow(self, table: str, read: Callable[[], object], forget: Callable[[], object] | None = None) -> None:
        """Have `read` called when the table has changed, and `forget` once it can't be asked for too long."""
        self._readers[table].append(read)
        if forget is not None:
            self._forgetters.append(forget)

    def start(self) -> None:
        """Begin to watch; readers are called once in any case."""
        self._thread = threading.Thread(target=self._run, name="tokenferry-revisions", daemon=True)
        self._thread.start()

    def away_for(self) -> float:
        """For how many seconds the database hasn't answered; 0 while it does."""
        silent = self._monotonic() - self._seen_at
        return silent if self._is_away or silent > _SILENT else 0.0

    def close(self) -> None:
        """End the thread. Harmless when it has ended."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2 * _LOOK)

    def _run(self) -> None:
        least, most = _BACK_OFF
        wait = least
        while not self._closing.is_set():
            try:
                with self._source.faults(), self._source.connect() as connection:
                    connection.answer_within = GLANCE_SECONDS
                    if self._listens:
                        connection.execute(f"LISTEN {_CHANNEL}".encode())
                    while not self._closing.is_set():
                        self.catch_up(connection)
                        wait = least
                        self._wait_for_notice(connection)
            except TokenferryError as fault:
                self._lost(str(fault))
                self._closing.wait(min(self._rng.uniform(0, wait), self._until_stale()))  # else all come back at once
                wait = min(2 * wait, most)
            except Exception:
                logger.exception("what other hosts change can't be followed")
                self._closing.wait(most)

    def _wait_for_notice(self, connection: PostgresConnection) -> None:
        end = self._monotonic() + (_POLL if self._listens else _POLL_POOLED)
        while self._monotonic() < end and not self._closing.is_set():
            for _ in connection.notifies(timeout=_LOOK, stop_after=1):
                self._closing.wait(_COALESCE)  # several changes are read at once
                return

    def catch_up(self, connection: PostgresConnection) -> None:
        """Read what has changed since the last time. Raises `StorageFailed`."""
        rows = connection.execute("SELECT name, number FROM revisions").fetchall()
        found = {row["name"]: row["number"] for row in rows}
        self._seen_at = self._monotonic()
        for name, readers in tuple(self._readers.items()):  # any thread may add one
            # A failover may have lost changes, and have counted others with their numbers.
            if self._is_away or self.numbers.get(name) != found.get(name):
                for read in tuple(readers):
                    read()
        self.numbers = found
        if self._is_away:
            logger.warning("%s can be used again", self._source.name)
        self._is_away = self._is_stale = False

    def _until_stale(self) -> float:
        return math.inf if self._is_stale else max(self._serve_stale - self.away_for(), 0.0) + 0.01

    def _lost(self, reason: str) -> None:
        if not self._is_away:
            logger.warning("what was known last counts for %g s: %s", self._serve_stale, reason)
        self._is_away = True
        if not self._is_stale and self.away_for() > self._serve_stale:
            self._is_stale = True
            logger.error(
                "the database has been away for %g s; client keys open nothing until it is back", self.away_for()
            )
            for forget in self._forgetters:
                forget()
