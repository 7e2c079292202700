"""Choosing an account, and a request's whole path through the pool: `python -m bench pool`."""

import gc
import timeit
from collections.abc import Callable
from functools import partial
from time import time
from typing import Final

from tokenferry.pool import AccountGroup, Criteria, Pool, PoolAccount, Served, Target, Trace, failover
from tokenferry.settings import Caps, PoolSettings, Strategy
from tokenferry.state import Cooldown, Scope

SERVED = Served(200, ())
CALLS: Final = 20_000
ROUNDS: Final = 7
SIZES: Final = (1, 10, 1000)
STRATEGIES: Final[tuple[Strategy, ...]] = ("priority", "round-robin", "least-utilised", "drain-soonest-reset")


def make(size: int, settings: PoolSettings, *, cooling: float = 0.0) -> tuple[Pool, Target]:
    """A pool of `size` accounts, of which the first ones, a share of `cooling`, are in cooldown."""
    group = AccountGroup("bench", tuple(PoolAccount(f"account-{number}", "bench") for number in range(size)))
    pool = Pool(settings)
    until = int(time()) + 3600
    cooldowns = [
        Cooldown(Scope("account", f"account-{number}"), "window", "answer", until, "limited", int(time()))
        for number in range(int(size * cooling))
    ]
    pool.cooldowns.adopt(cooldowns, {}, 0)
    return pool, Target(group, "claude-sonnet-4-5")


def travel(pool: Pool, targets: list[Target], criteria: Criteria) -> None:
    """A request that the first account serves."""
    run = failover(pool, targets, criteria, Trace(pool.monotonic()))
    next(run)
    try:
        run.send(SERVED)
    except StopIteration as end:
        end.value.lease.end()


def measure(call: Callable[[], object]) -> float:
    """The minimum nanoseconds of a call."""
    timer = timeit.Timer("call()", globals={"call": call})
    return min(timer.timeit(CALLS) for _ in range(ROUNDS)) / CALLS * 1e9


def main() -> None:
    cases: list[tuple[str, PoolSettings, Criteria, float]] = [
        *((f"select, {strategy}", PoolSettings(strategy=strategy), Criteria(), 0.0) for strategy in STRATEGIES),
        ("select, priority, a session at home", PoolSettings(), Criteria("session"), 0.0),
        ("select, priority, half are benched", PoolSettings(), Criteria(), 0.5),
        ("select, priority, with caps", PoolSettings(caps=Caps(6_000_000, max_concurrency=100)), Criteria(), 0.0),
    ]
    print(f"{'ns':44}" + "".join(f"{size:>9}" for size in SIZES) + "   accounts")
    gc.disable()
    for name, settings, criteria, cooling in cases:
        pools = [make(size, settings, cooling=cooling) for size in SIZES]
        figures = [measure(partial(pool.selector.select, target, criteria)) for pool, target in pools]
        print(f"{name:44}" + "".join(f"{figure:9.0f}" for figure in figures), flush=True)
    pools = [make(size, PoolSettings()) for size in SIZES]
    figures = [measure(partial(travel, pool, [target], Criteria("session"))) for pool, target in pools]
    print(f"{'a request from choosing to its end':44}" + "".join(f"{figure:9.0f}" for figure in figures))
    gc.enable()


if __name__ == "__main__":
    main()
