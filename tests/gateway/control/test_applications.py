"""The application is made when it is first asked, once, and beside the event loop."""

import asyncio
import threading
from typing import Any

import pytest

from tokenferry.gateway import LazyApplication

pytestmark = pytest.mark.anyio


class Made(LazyApplication):
    """Makes an application that answers nothing, and may fail at first."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(self._made)
        self.threads: list[threading.Thread] = []
        self.asked = 0
        self.failures = failures
        self.entered, self.go = threading.Event(), threading.Event()

    def _made(self) -> Any:
        self.threads.append(threading.current_thread())
        self.entered.set()
        assert self.go.wait(20)
        if len(self.threads) <= self.failures:
            raise MemoryError
        return self._answer

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1


async def _nothing(*_: Any) -> Any:
    pass


async def test_those_who_ask_meanwhile_wait_for_the_one_that_is_made() -> None:
    admin = Made()
    asking = [asyncio.create_task(admin({}, _nothing, _nothing)) for _ in range(5)]
    assert await asyncio.to_thread(admin.entered.wait, 20)
    assert admin.asked == 0, "and the loop goes on"
    asking[0].cancel()
    admin.go.set()
    assert [type(one) for one in await asyncio.gather(*asking, return_exceptions=True)] == [
        asyncio.CancelledError,
        *[type(None)] * 4,
    ]
    await admin({}, _nothing, _nothing)
    assert admin.asked == 5
    [thread] = admin.threads
    assert thread is not threading.main_thread()


async def test_a_making_that_failed_is_tried_again() -> None:
    admin = Made(failures=1)
    admin.go.set()
    with pytest.raises(MemoryError):
        await admin({}, _nothing, _nothing)
    await admin({}, _nothing, _nothing)
    assert admin.asked == 1
