import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import MethodType, TracebackType
from typing import Final, Self

from tokenferry.background._fork import after_fork_in_child
from tokenferry.errors import TokenferryError

logger = logging.getLogger(__name__)

_JOIN_SECONDS: Final = 5.0


class PeriodicThread:
    """Calls `work` on a daemon thread every `interval` seconds, and at once after `wake`.

    As a context manager it runs within the block. Without an `interval` it works only when woken. `pause` is the least
    time in seconds between two calls. `at_end`: `work` is called once more when it stops, for what came in last. With
    `weak`, `work` is a bound method whose object the thread does not keep alive; it ends with that object.

    A fault does not end it. The first one is logged, after `trouble`; those that follow are not, until a call succeeds.

    After a fork it does not run in the child, where no call has woken it; `start` may be called there again.

    Not guaranteed: a call for each `wake` (several during one call count once), a steady rhythm (the interval begins
    when a call ends), and the end of a call that takes longer than `stop` waits: the process does not wait for it.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        interval: float | None,
        *,
        pause: float = 0.0,
        at_end: bool = False,
        weak: bool = False,
        trouble: str | None = None,
    ) -> None:
        self.name = name
        self._work = _weakly(work) if weak else lambda: work
        self._interval = interval
        self._pause = pause
        self._at_end = at_end
        self._trouble = trouble or f"the work of {name} failed"
        self._has_failed = False
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._renew()

    def _renew(self) -> None:
        self._is_running = self._is_woken = False
        self._stopping = threading.Event()
        self._wakes: SimpleQueue[None] = SimpleQueue()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, before: Callable[[], object] = lambda: None) -> None:
        """Start it unless it runs; `before` is called first then. Raises `RuntimeError` if no thread can be had."""
        if self._is_running:
            return
        with self._guard:
            if not self._is_running:
                before()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stopping, self._wakes), name=self.name, daemon=True
                )
                self._thread.start()
                self._is_running = True

    def stop(self, wait: float = _JOIN_SECONDS) -> None:
        """Begin no further call, and wait so many seconds at most for the one under way. Harmless if it isn't running.

        It may be started again.
        """
        with self._guard:
            stopping, wakes, thread = self._stopping, self._wakes, self._thread
            self._renew()
        stopping.set()
        wakes.put(None)
        if wait and thread is not None and thread.ident is not None and thread is not threading.current_thread():
            thread.join(wait)

    def wake(self) -> None:
        """Have it work at once, or when it is started. Takes no lock: signal handlers and event loops may call it."""
        if not self._is_woken:
            self._is_woken = True
            self._wakes.put(None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def guarded(self, work: Callable[[], object]) -> None:
        """Call it as the thread calls its work: faults are logged as the class says."""
        try:
            work()
        except Exception as fault:
            if not self._has_failed and isinstance(fault, TokenferryError):
                logger.warning("%s: %s", self._trouble, fault)
            elif not self._has_failed:
                logger.exception("%s", self._trouble)
            self._has_failed = True
        else:
            self._has_failed = False

    def _run(self, stopping: threading.Event, wakes: SimpleQueue[None]) -> None:
        while True:
            with contextlib.suppress(Empty):
                wakes.get(timeout=self._interval)
            if stopping.is_set():
                break
            self._is_woken = False  # a wake-up from here on may have come too late for this call
            if not self._call():
                return
            stopping.wait(self._pause)
        if self._at_end:
            self._call()

    def _call(self) -> bool:
        """False once the object of the work is gone."""
        work = self._work()
        if work is not None:
            self.guarded(work)
        return work is not None


def _weakly(work: Callable[[], object]) -> Callable[[], Callable[[], object] | None]:
    """Gives a bound method while its object lives. A `WeakMethod` may complain while the interpreter shuts down."""
    assert isinstance(work, MethodType)
    owner, function = weakref.ref(work.__self__), work.__func__

    def get() -> Callable[[], object] | None:
        alive = owner()
        return None if alive is None else MethodType(function, alive)

    return get
