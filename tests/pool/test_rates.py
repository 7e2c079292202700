"""Crowds at accounts with rates: each request is served in its turn, when its turn is, and no faster than allowed."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from pool import runs as j
from tokenferry.pool import Criteria, Reject, SendAttempt, WaitForCapacity
from tokenferry.rates import GcraBucket
from tokenferry.settings import Caps, PoolSettings


class Agent(NamedTuple):
    """A request: when it comes, after the one before it, and what it takes."""

    pause: float
    tokens: int
    used: int
    seconds: float


agents = st.lists(
    st.builds(
        Agent,
        pause=st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0, 9.0]),
        tokens=st.sampled_from([1, 100, 900, 4000]),
        used=st.sampled_from([0, 90, 1200]),
        seconds=st.sampled_from([0.0, 0.2, 1.7, 20.0]),
    ),
    min_size=1,
    max_size=50,
)


class World:
    """Requests that come, wait, are served and end, on a clock that jumps to the next event."""

    def __init__(self, caps: Caps, accounts: tuple[str, ...] = ("a",), **options: object) -> None:
        pool = PoolSettings(caps=caps, max_queue=1000, total_timeout=600, **options)  # type: ignore[arg-type]
        self.rig = j.Rig(accounts, settings=pool)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()
        self.began: dict[int, tuple[float, str]] = {}
        self.refused: dict[int, Reject] = {}

    def at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.numbers), event))

    def play(self, crowd: list[Agent]) -> None:
        came = self.rig.clock.steady
        for number, agent in enumerate(crowd):
            came += agent.pause
            self.at(came, lambda number=number, agent=agent: self.come(number, agent))  # type: ignore[misc]
        while self.events:
            moment, _, event = heapq.heappop(self.events)
            self.rig.clock.pass_by(max(moment - self.rig.clock.steady, 0.0))
            event()
        assert not self.rig.pool.waiting
        assert not self.rig.pool.capacity.busy
        assert not self.rig.pool.capacity.held

    def come(self, number: int, agent: Agent) -> None:
        run = self.rig.run(Criteria(tokens=agent.tokens))
        turns = count()
        turn = next(turns)

        def go_on(of: int) -> None:
            nonlocal turn
            if of != turn:
                return  # it was woken before its time was over
            turn = next(turns)
            step = run.next()
            if isinstance(step, WaitForCapacity):
                mine = turn
                self.at(self.rig.clock.steady + step.seconds, lambda: go_on(mine))
            elif isinstance(step, SendAttempt):
                self.began[number] = (self.rig.clock.steady, step.account.name)
                j.reply(run, j.OK)
                self.at(self.rig.clock.steady + agent.seconds, lambda: j.giving(run.next()).lease.end(agent.used))
            else:
                assert isinstance(step, Reject)
                self.refused[number] = step

        run.wake = lambda: self.at(self.rig.clock.steady, lambda mine=turn: go_on(mine))  # type: ignore[misc]
        go_on(turn)


@settings(max_examples=effort(200), deadline=None)
@given(agents, st.sampled_from([6.0, 30.0, 600.0]), st.integers(1, 4))
def test_each_request_begins_in_its_turn_to_the_microsecond(crowd: list[Agent], rate: float, burst: int) -> None:
    world = World(Caps(requests_per_minute=rate, burst=burst))
    came = world.rig.clock.steady
    world.play(crowd)
    bucket = GcraBucket(rate / 60, burst)
    for number, agent in enumerate(crowd):
        came += agent.pause
        turn = came + bucket.delay(came, 1)
        if number in world.refused:
            assert turn - came > 600 - 1e-6
            continue
        bucket.charge(turn, 1)
        assert abs(world.began[number][0] - turn) < 1e-4


@settings(max_examples=effort(200), deadline=None)
@given(agents, st.integers(1, 3), st.sampled_from([0, 2]))
def test_crowds_keep_to_tokens_and_slots_and_each_request_ends(crowd: list[Agent], accounts: int, most: int) -> None:
    """In any minute an account begins requests of a minute's tokens, of another one's that are used meanwhile, and no
    more; requests of the same rights begin in the order in which they came."""
    caps = Caps(tokens_per_minute=6000, max_concurrency=most)
    world = World(caps, tuple("abc"[:accounts]))
    world.play(crowd)
    assert len(world.began) + len(world.refused) == len(crowd)
    order = [number for number, _ in sorted(world.began.items(), key=lambda item: (item[1][0], item[0]))]
    assert order == sorted(order), "nobody passes another one"
    for name in "abc"[:accounts]:
        mine = [(at, crowd[number]) for number, (at, served) in world.began.items() if served == name]
        for start, _ in mine:
            within = [agent.tokens for at, agent in mine if start <= at < start + 60]
            given_back = sum(max(agent.tokens - agent.used, 0) for at, agent in mine if at < start + 60)
            assert sum(within) <= 2 * 6000 + given_back + 1e-6
            if most:
                running = [agent for at, agent in mine if at <= start < at + agent.seconds]
                assert len(running) <= most
