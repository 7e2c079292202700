import logging
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

from tokenferry.background import PeriodicThread, after_fork_in_child

logger = logging.getLogger(__name__)

Stamps: TypeAlias = Callable[[], Mapping[str, Hashable]]


class Watch:
    """Reports changed documents, on a daemon thread that compares their stamps every `interval` seconds.

    The thread doesn't keep its `Watch` alive. In a forked child all documents are reported once, and the next
    `ensure_running` watches again.
    """

    def __init__(self, stamps: Stamps, interval: float, changed: Callable[[frozenset[str]], None]) -> None:
        self._stamps = stamps
        self._changed = changed
        self._known: Mapping[str, Hashable] = {}
        self._thread = PeriodicThread("tokenferry-watch", self._compare, interval, weak=True)
        after_fork_in_child(self._report_all)

    def ensure_running(self) -> None:
        """Start to watch; earlier changes aren't reported."""
        self._thread.start(self._begin)

    def wake(self) -> None:
        """Look at once, because the caller knows of a change."""
        self._thread.wake()

    def stop(self) -> None:
        self._thread.stop(0)

    def _begin(self) -> None:
        self._known = self._look() or {}

    def _compare(self) -> None:
        seen, known = self._look(), self._known
        if seen is not None and seen != known:
            self._known = seen
            self._changed(frozenset(name for name in {*seen, *known} if seen.get(name) != known.get(name)))

    def _report_all(self) -> None:
        self._changed(frozenset(self._look() or ()))

    def _look(self) -> Mapping[str, Hashable] | None:
        """Give the stamps; None if the store can't be read, which isn't a change."""
        try:
            return self._stamps()
        except Exception as fault:  # noqa: BLE001  # a user's own store may raise anything, and the watch must go on
            logger.debug("the store can't be examined: %s", type(fault).__name__)
            return None
