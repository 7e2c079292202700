import asyncio

import pytest

from tokenferry.sandbox._clock import Clock

pytestmark = pytest.mark.anyio


async def test_a_pause_ends_when_the_clock_passes_it() -> None:
    clock = Clock()
    pause = asyncio.create_task(clock.pause(3600, lambda: False))
    await asyncio.sleep(0)
    clock.advance(3599)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not pause.done()
    await asyncio.to_thread(clock.advance, 1)
    await pause


async def test_a_pause_without_end_waits_for_its_release() -> None:
    clock = Clock()
    released: list[bool] = []
    pause = asyncio.create_task(clock.pause(None, lambda: bool(released)))
    await asyncio.sleep(0)
    clock.advance(10**9)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not pause.done()
    released.append(True)
    clock.wake()
    await pause


async def test_a_pause_that_is_over_does_not_wait() -> None:
    await Clock().pause(0, lambda: False)
    await Clock().pause(None, lambda: True)


async def test_the_clock_can_be_set_and_set_back() -> None:
    clock = Clock()
    before = clock.now()
    clock.set(5)
    assert 5 <= clock.now() < before
    clock.reset()
    assert clock.now() >= before
