"""Looks for a client key that isn't known yet, where other hosts make keys."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

from tokenferry.errors import TokenferryError

logger = logging.getLogger("tokenferry.gateway")

_SECONDS: Final = 0.25


class KeyLookup:
    """One look at the database for all who wait: each gets one that began after it asked, and waits 250 ms at most.

    `look` runs on a thread of its own, for a database may hang; then no other one is begun. It belongs to one event
    loop.
    """

    def __init__(self, look: Callable[[], object], *, seconds: float = _SECONDS) -> None:
        self._look = look
        self._seconds = seconds
        self._running: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None

    async def __call__(self) -> bool:
        """Whether the database answered in time."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._after(self._running))
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(self._next)
        except TimeoutError:
            return False

    async def _after(self, running: "asyncio.Task[bool] | None") -> bool:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()
        threading.Thread(target=self._ask, args=(loop, answer), name="tokenferry-key-lookup", daemon=True).start()
        return await answer

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[bool]") -> None:
        is_answered = False
        try:
            self._look()
            is_answered = True
        except TokenferryError as fault:
            logger.info("an unknown client key can't be looked up: %s", fault)
        except Exception:
            logger.exception("an unknown client key can't be looked up")
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, answer, is_answered)


def _settle(answer: "asyncio.Future[bool]", is_answered: bool) -> None:  # noqa: FBT001  # as `call_soon` calls it
    if not answer.done():
        answer.set_result(is_answered)
