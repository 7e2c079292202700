import asyncio
import threading
import time
from collections.abc import Callable


class Clock:
    """The sandbox's own time: the machine's wall clock plus an offset that can be moved, in seconds UTC.

    Pauses end early when the clock is moved past them, so a test never has to wait.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def now(self) -> float:
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        self._offset += seconds
        self.wake()

    def set(self, unix: float) -> None:
        self._offset = unix - time.time()
        self.wake()

    def reset(self) -> None:
        self._offset = 0.0
        self.wake()

    def wake(self) -> None:
        """Make every pause check whether it is over. May be called from any thread."""
        with self._lock:
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    async def pause(self, seconds: float | None, released: Callable[[], bool]) -> None:
        """Wait for `seconds` of this clock (None: forever), or until `released()` after a `wake`."""
        await self.pause_until(None if seconds is None else self.now() + seconds, released)

    async def pause_until(self, deadline: float | None, released: Callable[[], bool]) -> None:
        """Wait until this clock shows that time (None: forever), or until `released()` after a `wake`."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.add(waiter)
        try:
            while not released():
                waiter[1].clear()
                left = None if deadline is None else deadline - self.now()
                if left is not None and left <= 0:
                    return
                try:
                    async with asyncio.timeout(left):
                        await waiter[1].wait()
                except TimeoutError:
                    continue
        finally:
            with self._lock:
                self._waiting.discard(waiter)
