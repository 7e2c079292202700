"""Looks up an unknown client key in the database that hosts share."""

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
    """Shares one query among concurrent callers. Each gets a query that began after its call, or waits 250 ms.

    `look` runs on its own thread, since a database may hang; no second one starts meanwhile. It belongs to one event
    loop.
    """

    def __init__(self, look: Callable[[], object], *, seconds: float = _SECONDS) -> None:
        self._look = look
        self._seconds = seconds
        self._running: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None

    async def __call__(self) -> bool:
        """Query the database. Give whether it answered in time."""
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


def _settle(answer: "asyncio.Future[bool]", is_answered: bool) -> None:  # noqa: FBT001  # called by `call_soon_threadsafe`
    if not answer.done():
        answer.set_result(is_answered)
