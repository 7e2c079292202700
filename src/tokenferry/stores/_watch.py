import logging
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import TypeAlias

logger = logging.getLogger(__name__)

Stamps: TypeAlias = Callable[[], Mapping[str, Hashable]]

_watches: "weakref.WeakSet[Watch]" = weakref.WeakSet()


class Watch:
    """Tells, off the callers' path, which documents were changed by anybody.

    A daemon thread asks for their stamps every `interval` seconds; it doesn't keep its `Watch` alive.
    """

    def __init__(self, stamps: Stamps, interval: float, changed: Callable[[frozenset[str]], None]) -> None:
        self._stamps = stamps
        self._interval = interval
        self._changed = changed
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        _watches.add(self)

    def ensure_running(self) -> None:
        """Begin to watch; what happened before this call isn't told."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None:
                self._stop = threading.Event()
                arguments = (weakref.ref(self), self._stamps, self._interval, self._stop, _look(self._stamps) or {})
                self._thread = threading.Thread(target=_watch, args=arguments, name="tokenferry-watch", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def tell(self, names: frozenset[str]) -> None:
        self._changed(names)

    def forget_thread(self) -> None:
        """In a forked child: the parent's thread doesn't run here."""
        self._guard = threading.Lock()
        self._thread = None
        self._changed(frozenset(_look(self._stamps) or ()))


def _look(stamps: Stamps) -> Mapping[str, Hashable] | None:
    """The stamps, or None when the store can't be looked at: that is no news of its documents."""
    try:
        return stamps()
    except Exception as fault:  # noqa: BLE001  # whatever somebody's own store raises must not end the watch
        logger.debug("the store can't be looked at: %s", type(fault).__name__)
        return None


def _watch(
    reference: "weakref.ref[Watch]",
    stamps: Stamps,
    interval: float,
    stop: threading.Event,
    known: Mapping[str, Hashable],
) -> None:
    while not stop.wait(interval):
        seen = _look(stamps)
        watch = reference()
        if watch is None:
            return
        if seen is not None and seen != known:
            watch.tell(frozenset(name for name in {*seen, *known} if seen.get(name) != known.get(name)))
            known = seen
        del watch


def _after_fork() -> None:
    for watch in list(_watches):
        watch.forget_thread()


os.register_at_fork(after_in_child=_after_fork)
