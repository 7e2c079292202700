import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 5.0


class BatchWriter:
    """Calls `work` on a thread of its own when there is something to do.

    It does so at once for the first thing of a burst, and every `interval` seconds for what follows. As a context
    manager it works within the block, and once more at its end, which waits 5 s at most.
    """

    def __init__(self, name: str, work: Callable[[], None], interval: float) -> None:
        self._work = work
        self._interval = interval
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._is_called = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._calls.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def call(self) -> None:
        """Say that there is something to do. Costs no lock and wakes nobody who has been told already."""
        if not self._is_called:
            self._is_called = True
            self._calls.put(None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        is_over = False
        while not is_over:
            self._calls.get()
            self._guarded()
            self._closing.wait(self._interval)
            is_over = self._closing.is_set()  # asked before the last work: what was there by then must be done
            self._is_called = False  # from here on, whoever has something to do calls again
            self._guarded()

    def _guarded(self) -> None:
        """Whatever goes wrong once must not end it."""
        try:
            self._work()
        except Exception:
            logger.exception("what %s was to write is lost", self._thread.name)
