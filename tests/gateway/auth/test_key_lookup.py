import asyncio
import threading

import pytest

from tokenferry.errors import StorageFailed
from tokenferry.gateway.auth.key_lookup import KeyLookup


class Looks:
    """Counts the looks, each of which waits until it may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.first = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.may_end = threading.Event()

    def __call__(self) -> None:
        self.begun += 1
        self._loop.call_soon_threadsafe(self.first.set)
        assert self.may_end.wait(10)


def test_all_who_wait_share_a_look_that_began_after_they_asked() -> None:
    async def run() -> None:
        looks = Looks()
        lookup = KeyLookup(looks, seconds=10)
        first = [asyncio.create_task(lookup()) for _ in range(5)]
        await looks.first.wait()
        second = [asyncio.create_task(lookup()) for _ in range(5)]
        looks.may_end.set()
        assert await asyncio.gather(*first, *second) == [True] * 10
        assert looks.begun == 2

    asyncio.run(run())


def test_a_database_that_hangs_is_waited_for_briefly_and_asked_once() -> None:
    async def run() -> None:
        looks = Looks()
        lookup = KeyLookup(looks, seconds=0.01)
        assert [await lookup() for _ in range(3)] == [False] * 3
        await looks.first.wait()
        assert looks.begun == 1
        looks.may_end.set()
        assert await KeyLookup(looks, seconds=10)()

    asyncio.run(run())


@pytest.mark.parametrize("fault", [StorageFailed("away"), ValueError("a defect")])
def test_a_look_that_fails_is_no_answer_and_the_next_one_may_be(fault: Exception) -> None:
    faults = [fault]

    def look() -> None:
        if faults:
            raise faults.pop()

    async def run() -> list[bool]:
        lookup = KeyLookup(look, seconds=10)
        return [await lookup(), await lookup()]

    assert asyncio.run(run()) == [False, True]
