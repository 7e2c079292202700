"""What a driver of failover holds and calls, in scenarios, and mutants of it, each caught by one of them."""

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from gateway.rig import api_key
from pool import runs as j
from tokenferry.credentials import Credential
from tokenferry.gateway.http.client_api import MESSAGES
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.proxy.attempt import AttemptRunner
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.pool import CapacityGranted, Criteria, Pool, Ticket, Trace, WaitForCapacity, WaitOver, _failover
from tokenferry.pool._lease import Lease
from tokenferry.settings import Caps, PoolSettings
from tokenferry.upstream import AnswerCut, ResponseHead, UpstreamClosed, UpstreamError

pytestmark = pytest.mark.anyio

OVERLOADED: Final = 529
WRONG: Final = 400
NOT_FOUND: Final = 404
FORBIDDEN: Final = 403
FLOOD: Final = bytes((1 << 20) + 1)


class World:
    """A pool, requests over it, and an upstream that answers when the scenario says so. It notes every broken rule."""

    made: ClassVar["list[World]"] = []

    def __init__(self, *accounts: str, runner: type[AttemptRunner] = AttemptRunner, concurrency: int = 1) -> None:
        self.rig = j.Rig(accounts, settings=PoolSettings(caps=Caps(max_concurrency=concurrency)))
        self.pool: Pool = self.rig.pool
        self.made.append(self)
        self.runner = runner
        self.broken: list[str] = []
        self.inside = 0
        self.clients: list[Client] = []
        self.credential: asyncio.Future[Credential] | None = None
        """What a credential that isn't at hand is waited for."""

    def begin(self, criteria: Criteria = j.ANY) -> "Client":
        client = Client(self, criteria)
        self.clients.append(client)
        client.start()
        return client

    def enter(self, what: str) -> None:
        if self.inside:
            self.broken.append(f"{what} within a send")

    @property
    def busy(self) -> dict[str, int]:
        return self.pool.capacity.busy

    async def settle(self) -> None:
        """Let everything run that waits for its turn in the loop."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def check_end(self) -> None:
        """Once every client has left, nothing is held, and nothing is called that should be over."""
        await self.settle()
        for client in self.clients:
            client.leave()
        await self.settle()
        assert self.broken == []
        assert self.busy == {}
        assert not self.pool.waiting

    # What a forwarder does for the driver.

    hosted = frozenset[str]()

    @property
    def source(self) -> "World":
        return self

    def fresh(self, name: str) -> Credential | None:
        return api_key(name) if self.credential is None else None

    async def aresolve(self, name: str, *, refused: object = None) -> Credential:
        assert self.credential is not None
        return await asyncio.shield(self.credential)

    def is_current(self, provider: str, account: str) -> bool:
        return True

    def response_headers(self, head: ResponseHead, request: object) -> SimpleNamespace:
        return SimpleNamespace(is_event_stream=False, is_json=False)

    def reworded(self, *given: object) -> None:
        return None

    def send(self, request: object, target: object, account: str, credential: Credential, sink: Any) -> "Call":
        self.enter("an upstream called")
        client: Client = request  # type: ignore[assignment]
        if client.is_over:
            self.broken.append("sent after its end")
        client.call = Call(account, sink)
        client.accounts.append(account)
        return client.call


class Call:
    """An upstream's part of one attempt."""

    def __init__(self, account: str, sink: Any) -> None:
        self.account = account
        self.sink = sink
        self.is_over = self.is_paused = False
        self.status = 0

    @property
    def has_begun(self) -> bool:
        return self.status > 0

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def abort(self) -> None:
        self.is_over = True

    def begin(self, status: int = 200) -> None:
        assert not self.is_over
        self.status = status
        self.sink.on_head(ResponseHead(status, []))

    def answer(self, status: int = 200) -> None:
        if not self.has_begun:
            self.begin(status)
        if not self.is_over:
            self.sink.on_body(b"{}")
        if not self.is_over:
            self.is_over = True
            self.sink.on_end()

    def fail(self, failure: UpstreamError) -> None:
        self.is_over = True
        self.sink.on_failure(failure)


class Watched:
    """A failover, whose sends are seen."""

    def __init__(self, world: World, failover: Any) -> None:
        self._world = world
        self._failover = failover

    def send(self, outcome: object) -> object:
        self._world.enter("a send")
        self._world.inside += 1
        try:
            return self._failover.send(outcome)
        finally:
            self._world.inside -= 1

    def close(self) -> None:
        self._failover.close()


class Client:
    """One request's sink, which ends its driver as an exchange does."""

    failover = staticmethod(_failover.failover)

    def __init__(self, world: World, criteria: Criteria) -> None:
        self.world = world
        self.is_over = False
        self.call: Call | None = None
        self.accounts: list[str] = []
        self.faults: list[Exception] = []
        trace = Trace(world.pool.monotonic())
        self.watched = Watched(world, self.failover(world.pool, world.rig.targets, criteria, trace))
        record = RequestRecord("tf_1", "POST", "/v1/messages")
        self.own = None
        self.client, self.is_side, self.is_count = MESSAGES, False, False
        self.thoughts, self.conversation = (), ""
        request: Any = self
        self.runner = world.runner(self, world, request, self.watched, record)  # type: ignore[arg-type]

    def start(self) -> None:
        try:
            self.runner.advance()
        except Exception as fault:  # noqa: BLE001  # as an exchange does
            self.fail(fault)

    @property
    def upstream(self) -> Call:
        assert self.call is not None
        return self.call

    @property
    def waits_for(self) -> WaitForCapacity:
        assert self.runner._waits_for is not None
        return self.runner._waits_for

    def leave(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.runner.close()

    # What the driver calls.

    def begin(self, head: ResponseHead, headers: object) -> None:
        self._hear("begin")

    def feed(self, chunk: bytes) -> None:
        self._hear("feed")

    def end(self) -> None:
        self._hear("end")
        self.leave()

    def cut(self, failure: UpstreamError) -> None:
        self._hear("cut")
        self.leave()

    def reroute(self) -> None:
        raise AssertionError("no configuration changes here")

    def fail(self, fault: Exception) -> None:
        self._hear(f"failed by {fault!r}")
        self.faults.append(fault)
        self.leave()

    def _hear(self, what: str) -> None:
        self.world.enter(what)
        if self.is_over:
            self.world.broken.append(f"{what} after its end")


Scenario = Callable[[type[AttemptRunner]], Awaitable[None]]


async def leaves_while_waiting(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    first, second = world.begin(), world.begin()
    assert second.waits_for.ticket in world.pool.waiting
    second.leave()
    first.upstream.answer()
    await world.settle()
    assert (world.busy, second.accounts) == ({}, [])
    await world.check_end()


async def leaves_between_grant_and_wake(runner: type[AttemptRunner]) -> None:
    """The slot goes to the next, not to who has left."""
    world = World("a", runner=runner)
    first, second, third = world.begin(), world.begin(), world.begin()
    first.upstream.answer()
    assert second.accounts == []  # granted, and yet to be woken
    second.leave()
    await world.settle()
    assert (second.accounts, third.accounts, world.busy) == ([], ["a"], {"a": 1})
    third.upstream.answer()
    await world.check_end()


async def leaves_while_paused(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    client = world.begin()
    client.upstream.begin()
    client.runner.pause()
    assert (client.upstream.is_paused, world.busy) == (True, {"a": 1})
    client.leave()
    assert (client.upstream.is_over, world.busy) == (True, {})
    await world.check_end()


async def leaves_in_a_timer(runner: type[AttemptRunner]) -> None:
    """A retry of the same account waits for its time, and holds the account's slot."""
    world = World("a", runner=runner)
    client = world.begin()
    client.upstream.answer(OVERLOADED)
    timer = client.runner._timer
    assert timer is not None
    assert world.busy == {"a": 1}
    client.leave()
    assert (timer.cancelled(), world.busy) == (True, {})
    await world.check_end()


async def leaves_while_its_credential_is_resolved(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    world.credential = asyncio.get_running_loop().create_future()
    client = world.begin()
    await world.settle()
    client.leave()
    assert world.busy == {}
    world.credential.set_result(api_key())
    await world.settle()
    assert client.accounts == []
    await world.check_end()


async def leaves_while_the_error_is_forwarded(runner: type[AttemptRunner]) -> None:
    world = World("a", "b", runner=runner)
    client = world.begin()
    client.upstream.answer(NOT_FOUND)
    await world.settle()
    assert (client.accounts, client.faults) == (["a", "b"], [])
    client.upstream.answer(NOT_FOUND)
    assert client.is_over
    await world.check_end()


async def holds_its_slot_until_its_answer_ends(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    client, other = world.begin(), world.begin()
    client.upstream.begin()
    await world.settle()
    assert (world.busy, other.accounts) == ({"a": 1}, [])
    client.upstream.fail(UpstreamClosed("host", sent=True, answered=True))
    await world.settle()
    assert (world.busy, other.accounts) == ({"a": 1}, ["a"])
    await world.check_end()


async def holds_its_slot_while_a_large_error_is_forwarded(runner: type[AttemptRunner]) -> None:
    """More than is held back: the upstream goes on sending it."""
    world = World("a", runner=runner)
    client, other = world.begin(), world.begin()
    client.upstream.begin(WRONG)
    client.upstream.sink.on_body(FLOOD)
    await world.settle()
    assert (client.is_over, world.busy, other.accounts) == (False, {"a": 1}, [])
    client.upstream.sink.on_end()
    await world.settle()
    assert (client.is_over, world.busy, other.accounts) == (True, {"a": 1}, ["a"])
    await world.check_end()


async def holds_its_slot_while_an_error_that_nothing_better_follows_is_forwarded(runner: type[AttemptRunner]) -> None:
    """It was settled before the error's end, and then there was no other account: more of it still comes."""
    for status in (NOT_FOUND, FORBIDDEN, OVERLOADED):
        world = World("a", runner=type("Timed", (Timed, runner), {}))
        client = world.begin()
        while client.upstream.status != status:
            client.upstream.begin(status)
            client.upstream.sink.on_body(FLOOD)
            if isinstance(timer := cast("Any", client.runner._timer), Timer):
                timer.fire()
        other = world.begin(Criteria("other"))
        assert (client.is_over, world.busy, other.accounts) == (False, {"a": 1}, [])
        client.upstream.sink.on_end()
        await world.settle()
        assert (client.is_over, client.faults, other.accounts) == (True, [], ["a"])
        await world.check_end()


async def ends_its_lease_once(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner, concurrency=2)
    first, second = world.begin(), world.begin()
    for client in (first, second):
        client.upstream.begin()
    lease = first.runner._lease
    assert lease is not None
    first.leave()
    first.runner.close()
    lease.end()
    assert world.busy == {"a": 1}
    await world.check_end()


async def gets_one_slot_of_two(runner: type[AttemptRunner]) -> None:
    world = World("a", "b", runner=runner)
    running = [world.begin() for _ in range(2)]
    waiting = [world.begin() for _ in range(2)]
    for client in running:
        client.upstream.answer()
    await world.settle()
    assert [client.accounts for client in waiting] == [["a"], ["b"]]
    assert world.busy == {"a": 1, "b": 1}
    for client in waiting:
        client.upstream.answer()
    await world.check_end()


async def is_woken_while_another_fails_over(runner: type[AttemptRunner]) -> None:
    """The slot comes free inside the other one's send."""
    world = World("a", "b", runner=runner)
    first = world.begin()
    waiting = world.begin(Criteria(pinned="a"))
    first.upstream.answer(NOT_FOUND)
    await world.settle()
    assert (first.accounts, waiting.accounts) == (["a", "b"], ["a"])
    await world.check_end()


async def is_woken_as_its_wait_ends(runner: type[AttemptRunner]) -> None:
    """Timer and wake come in the same turn of the loop; only the first counts."""
    world = World("a", runner=runner)
    first, second = world.begin(), world.begin()
    step = second.waits_for
    first.upstream.answer()
    second.runner._end_wait(step, WaitOver())
    await world.settle()
    assert (second.accounts, second.faults, world.busy) == (["a"], [], {"a": 1})
    second.upstream.answer()
    await world.check_end()


async def waits_when_a_reload_lifts_the_caps(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    first, second = world.begin(), world.begin()
    world.pool.configure(PoolSettings())
    second.runner._end_wait(second.waits_for, WaitOver())
    assert (second.accounts, world.busy) == (["a"], {"a": 2})
    assert not world.pool.waiting
    for client in (first, second):
        client.upstream.answer()
    await world.check_end()


async def waits_when_a_reload_lowers_the_caps(runner: type[AttemptRunner]) -> None:
    """A slot that is no more is not granted."""
    world = World("a", runner=runner, concurrency=2)
    first, second, waiting = (world.begin() for _ in range(3))
    world.pool.configure(PoolSettings(caps=Caps(max_concurrency=1)))
    first.upstream.answer()
    await world.settle()
    assert (waiting.accounts, world.busy) == ([], {"a": 1})
    second.upstream.answer()
    await world.settle()
    assert (waiting.accounts, world.busy) == (["a"], {"a": 1})
    await world.check_end()


async def leaves_while_it_probes(runner: type[AttemptRunner]) -> None:
    """The next request may find out instead whether the account has recovered."""
    world = World("a", runner=runner)
    world.rig.serve(j.ANY, j.limited())
    for _ in range(2):
        world.rig.clock.pass_by(100)
        client = world.begin()
        assert client.accounts == ["a"]
        assert client.runner._step is not None
        assert client.runner._step.is_probe
        client.leave()
    await world.check_end()


async def meets_a_defect(runner: type[AttemptRunner]) -> None:
    world = World("a", runner=runner)
    vars(world.pool)["served"] = lambda *_: 1 / 0
    client = world.begin()
    client.upstream.begin()
    assert [type(fault) for fault in client.faults] == [ZeroDivisionError]
    assert world.busy == {}
    await world.check_end()


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        leaves_while_waiting,
        leaves_between_grant_and_wake,
        leaves_while_paused,
        leaves_in_a_timer,
        leaves_while_its_credential_is_resolved,
        leaves_while_the_error_is_forwarded,
        holds_its_slot_until_its_answer_ends,
        holds_its_slot_while_a_large_error_is_forwarded,
        holds_its_slot_while_an_error_that_nothing_better_follows_is_forwarded,
        ends_its_lease_once,
        gets_one_slot_of_two,
        is_woken_while_another_fails_over,
        is_woken_as_its_wait_ends,
        waits_when_a_reload_lifts_the_caps,
        waits_when_a_reload_lowers_the_caps,
        leaves_while_it_probes,
        meets_a_defect,
    )
}


@pytest.fixture(autouse=True)
def _nothing_is_left_to_the_collector() -> Iterator[None]:
    """A mutant leaves generators open, whose end would wake requests of a loop that is closed."""
    World.made.clear()
    yield
    for world in World.made:
        world.pool.waiting.clear()
        for client in world.clients:
            client.watched.close()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_request_that(name: str) -> None:
    """It leaves nothing behind, and is called no more once it has ended."""
    await SCENARIOS[name](AttemptRunner)


class Timed(AttemptRunner):
    """Its timers end when the test says so."""

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        timer: Any = Timer(self, seconds, call)
        self._timer = timer


class Timer:
    def __init__(self, runner: AttemptRunner, seconds: float, call: Callable[[], None]) -> None:
        self._runner = runner
        self.seconds = seconds
        self._call = call

    def cancel(self) -> None:
        self._call = lambda: pytest.fail("a timer that was cancelled")

    def fire(self) -> None:
        self._runner._due(self._call)


EVENTS: Final = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from([j.ANY, Criteria(pinned="a"), Criteria("session")])),
    st.tuples(st.just("answer"), st.sampled_from([200, 200, 400, 404, 429, 500, OVERLOADED])),
    st.tuples(st.just("start"), st.just(200)),
    st.tuples(st.just("flood"), st.sampled_from([400, 403, 404, 429, 500, OVERLOADED])),
    st.tuples(st.just("lose"), st.booleans()),
    st.tuples(st.sampled_from(["leave", "pause", "resume", "fire"]), st.none()),
    st.tuples(st.just("reload"), st.integers(0, 2)),
)


async def go_through(events: list[tuple[int, tuple[str, Any], bool]], runner: type[AttemptRunner]) -> None:
    """Each event meets a request under way. Without a rest, the next one comes in the same turn of the loop."""
    world = World("a", "b", runner=runner)
    for number, (kind, what), rests in events:
        alive = [client for client in world.clients if not client.is_over]
        if kind == "begin":
            world.begin(what)
        elif kind == "reload":
            world.pool.configure(PoolSettings(caps=Caps(max_concurrency=what, requests_per_minute=60 * (number % 2))))
        elif alive:
            befall(world, alive[number % len(alive)], kind, what)
        if rests:
            await world.settle()
            held = [client for client in world.clients if not client.is_over and client.runner._waits_for is None]
            assert sum(world.busy.values()) == len(held)
    assert {type(fault) for client in world.clients for fault in client.faults} <= {GatewayError, AnswerCut}
    await world.check_end()


def befall(world: World, client: Client, kind: str, what: Any) -> None:
    call, timer = client.call, cast("Any", client.runner._timer)
    if kind == "leave":
        client.leave()
    elif kind in {"pause", "resume"}:
        getattr(client.runner, kind)()
    elif kind == "fire" and isinstance(timer, Timer):
        world.rig.clock.pass_by(timer.seconds)
        timer.fire()
    elif call is None or call.is_over:
        pass
    elif kind == "lose":
        call.fail(AnswerCut("host", after_head=call.has_begun, sent=what or call.has_begun, answered=call.has_begun))
    elif kind == "start" and not call.has_begun:
        call.begin(what)
    elif kind == "answer":
        call.answer(call.status or what)
    elif kind == "flood" and not call.has_begun:
        call.begin(what)
        call.sink.on_body(FLOOD)  # more than is held back, and more is to come


@settings(max_examples=effort(100), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), EVENTS, st.booleans()), max_size=40))
def test_whatever_befalls_requests_each_holds_one_slot_until_it_ends(
    events: list[tuple[int, tuple[str, Any], bool]],
) -> None:
    asyncio.run(go_through(events, Timed))


# Mutants. Each takes out one safeguard.


class LeavesItsGenerator(AttemptRunner):
    def close(self) -> None:
        vars(self)["_failover"] = SimpleNamespace(close=lambda: None)
        super().close()


class ForgetsItsLease(AttemptRunner):
    def close(self) -> None:
        self._lease = None
        super().close()


class LeavesItsTimer(AttemptRunner):
    def close(self) -> None:
        self._timer = None
        super().close()


class EndsItsLeaseAtOnce(AttemptRunner):
    def advance(self, *given: Any) -> None:
        super().advance(*given)
        if self._lease is not None:
            self._lease.end()


class WakesInPlace(AttemptRunner):
    def _wait_for_capacity(self, step: WaitForCapacity) -> None:
        super()._wait_for_capacity(step)
        step.ticket.wake = lambda: self._end_wait(step, CapacityGranted())


class WakesWhatIsOver(AttemptRunner):
    def _guarded(self, call: Callable[..., None], *given: object) -> None:
        was_over, self._is_over = self._is_over, False
        super()._guarded(call, *given)
        self._is_over = was_over or self._is_over


class TakesEveryWake(AttemptRunner):
    def _end_wait(self, step: WaitForCapacity, outcome: Any) -> None:
        self._waits_for = step
        super()._end_wait(step, outcome)


RUNNERS: Final[list[tuple[type[AttemptRunner], Scenario]]] = [
    (LeavesItsGenerator, leaves_while_waiting),
    (LeavesItsGenerator, leaves_in_a_timer),
    (LeavesItsGenerator, leaves_while_its_credential_is_resolved),
    (ForgetsItsLease, leaves_while_paused),
    (LeavesItsTimer, leaves_in_a_timer),
    (EndsItsLeaseAtOnce, holds_its_slot_until_its_answer_ends),
    (EndsItsLeaseAtOnce, holds_its_slot_while_a_large_error_is_forwarded),
    (WakesInPlace, is_woken_while_another_fails_over),
    (WakesWhatIsOver, leaves_between_grant_and_wake),
    (TakesEveryWake, is_woken_as_its_wait_ends),
]


@pytest.mark.parametrize(("runner", "scenario"), RUNNERS)
async def test_a_mutant_of_the_driver_is_caught(runner: type[AttemptRunner], scenario: Scenario) -> None:
    with pytest.raises(AssertionError):
        await scenario(runner)


def stays_in_the_queue(ticket: Ticket) -> None:
    if (lease := ticket.take()) is not None:
        lease.end()


def keeps_what_was_granted(ticket: Ticket) -> None:
    if ticket in ticket._pool.waiting:
        ticket._pool.waiting.remove(ticket)


def is_granted_twice(ticket: Ticket, *found: Any, grant: Any = Ticket.grant) -> None:
    grant(ticket, *found)
    ticket._pool.waiting.appendleft(ticket)


def ends_whenever_it_is_asked(lease: Lease, _used: int | None = None) -> None:
    lease._is_held = True
    lease.settle(0.0, 0)
    lease._pool.offer(lease.selection.account)


def leaves_its_probe_under_way(lease: Lease, _used: int | None = None) -> None:
    if lease.settle(0.0, 0):
        lease._pool.offer(lease.selection.account)


PARTS: Final[list[tuple[type, str, Callable[..., object], Scenario]]] = [
    (Ticket, "close", stays_in_the_queue, leaves_while_waiting),
    (Ticket, "close", keeps_what_was_granted, leaves_between_grant_and_wake),
    (Ticket, "grant", is_granted_twice, gets_one_slot_of_two),
    (Lease, "end", ends_whenever_it_is_asked, ends_its_lease_once),
    (Lease, "end", leaves_its_probe_under_way, leaves_while_it_probes),
]


@pytest.mark.parametrize(("owner", "name", "mutant", "scenario"), PARTS)
async def test_a_mutant_of_what_is_held_is_caught(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, mutant: Callable[..., object], scenario: Scenario
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    with pytest.raises(AssertionError):
        await scenario(AttemptRunner)


EDITS: Final[list[tuple[str, str, Scenario]]] = [
    ("            lease.end()\n", "            pass\n", leaves_in_a_timer),
    ("            lease.end()\n", "            pass\n", meets_a_defect),
    ("            lease.end()\n", "            pass\n", is_woken_while_another_fails_over),
    ("        if not is_forwarded:\n", "        if True:\n", holds_its_slot_until_its_answer_ends),
    (
        "            lease.resume()\n",
        "            pass\n",
        holds_its_slot_while_an_error_that_nothing_better_follows_is_forwarded,
    ),
    ("        ticket.close()\n", "        pass\n", leaves_while_waiting),
    ("        ticket.close()\n", "        pass\n", leaves_between_grant_and_wake),
]


@pytest.mark.parametrize(("before", "after", "scenario"), EDITS)
async def test_a_mutant_of_the_generator_is_caught(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str, scenario: Scenario
) -> None:
    source = inspect.getsource(_failover)
    assert source.count(before) == 1, "the mutant no longer applies"
    module = types.ModuleType(_failover.__name__)
    exec(compile(source.replace(before, after), "<mutant>", "exec"), module.__dict__)
    monkeypatch.setattr(Client, "failover", staticmethod(module.failover))
    with pytest.raises(AssertionError):
        await scenario(AttemptRunner)
