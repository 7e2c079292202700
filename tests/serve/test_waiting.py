import asyncio
from random import Random

import pytest

from tokenferry.errors import StorageFailed, StoreAway
from tokenferry.serve._waiting import WaitingLifespan


class NoWait(Random):
    """Spreads nothing, and notes the bounds within which it should."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        return 0.0


@pytest.mark.parametrize("last", ["ready", StorageFailed("its tables are of an older version")])
def test_it_tries_again_with_growing_waits_while_the_database_is_away_and_no_other_fault(
    last: str | StorageFailed,
) -> None:
    rng, outcomes = NoWait(), [*[StoreAway("connection refused")] * 8, last]

    def prepare() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def wait() -> WaitingLifespan[str]:
        ended = asyncio.Event()
        lifespan = WaitingLifespan(prepare, ended.set, follows=False, rng=rng)
        await lifespan.started()
        await ended.wait()
        return lifespan

    lifespan = asyncio.run(asyncio.wait_for(wait(), 10))
    assert (lifespan.prepared, lifespan.fault) == (([last], None) if last == "ready" else ([], last))
    assert rng.asked == [(0, most) for most in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)]
