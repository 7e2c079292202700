import contextlib
import threading
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """What a thread is working on, and all who wait for it. No waiter's cancellation reaches the work."""

    def __init__(self) -> None:
        self.future: Future[T] = Future()
        self.future.set_running_or_notify_cancel()
        self.waiters = 0
        self._guard = threading.Lock()

    def wait(self, seconds: float) -> None:
        """Block until it ended or the time is up."""
        self._count(1)
        try:
            self.future.exception(seconds)
        except TimeoutError:
            return
        finally:
            self._count(-1)

    async def async_wait(self, seconds: float) -> None:
        """The same for asyncio. Parks no thread, and survives a loop that closes in between."""
        import asyncio  # noqa: PLC0415  # 50 ms that synchronous callers are spared

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wake(_: "Future[T]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop that waited is closed; no caller is left to wake
                loop.call_soon_threadsafe(ended.set)

        self.future.add_done_callback(wake)
        self._count(1)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            return
        finally:
            self._count(-1)

    def end(self, result: T | None, fault: BaseException | None) -> None:
        """Let the waiters go; only the first end counts."""
        if self.future.done():
            return
        if fault is not None:
            self.future.set_exception(fault)
        else:
            assert result is not None
            self.future.set_result(result)

    def _count(self, change: int) -> None:
        with self._guard:
            self.waiters += change
