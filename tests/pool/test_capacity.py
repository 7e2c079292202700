"""Caps and rates: a request waits for a slot in its turn."""

from collections.abc import Callable
from functools import partial

import pytest

from pool import runs as j
from tokenferry.pool import (
    Criteria,
    Pool,
    Reject,
    SendAttempt,
    Target,
)
from tokenferry.rates import Share
from tokenferry.settings import AccountSettings, Caps, PoolSettings


def capped(max_queue: int = 10, total_timeout: float = 120.0, **limits: int) -> j.Rig:
    caps = Caps(**limits)
    return j.Rig(("a", "b"), settings=PoolSettings(max_queue=max_queue, total_timeout=total_timeout, caps=caps))


def test_at_most_so_many_requests_at_a_time_then_the_next_account_then_a_queue_in_order() -> None:
    rig = capped(max_concurrency=1)
    running = [rig.run() for _ in range(2)]
    assert [j.trying(one.next()).account.name for one in running] == ["a", "b"]
    woken: list[int] = []
    waiting: list[j.Run] = []
    for number in range(3):
        run = rig.run()
        run.wake = partial(woken.append, number)
        assert j.queueing(run.next()).seconds > 0
        waiting.append(run)
    running[1].close()
    assert woken == [0]
    assert j.trying(waiting[0].next()).account.name == "b"
    # Whoever comes now is behind those that wait.
    late = rig.run()
    j.queueing(late.next())
    running[0].close()
    assert woken == [0, 1]
    assert j.trying(waiting[1].next()).account.name == "a"
    waiting[2].close()
    late.close()
    waiting[0].close()
    waiting[1].close()
    assert not rig.pool.waiting
    assert not rig.pool.capacity.busy


def test_a_place_that_was_granted_to_who_left_goes_to_the_next() -> None:
    rig = capped(max_concurrency=1)
    running = [rig.run() for _ in range(2)]
    for run in running:
        run.next()
    first, second = rig.run(), rig.run()
    j.queueing(first.next())
    j.queueing(second.next())
    running[0].close()
    first.close()
    assert j.trying(second.next()).account.name == "a"


def test_the_queue_is_bounded_and_so_is_the_waiting() -> None:
    rig = capped(max_queue=1, total_timeout=30, max_concurrency=1)
    running = [rig.run() for _ in range(2)]
    assert [j.trying(one.next()).account.name for one in running] == ["a", "b"]
    waiting = rig.run()
    assert j.queueing(waiting.next()).seconds == 1
    refusal = j.refusal(rig.run().next())
    assert (refusal.status, refusal.cause, refusal.retry_after) == (429, "at_capacity", 1)
    rig.clock.pass_by(29.5)
    assert j.queueing(waiting.next()).seconds == 0.5
    rig.clock.pass_by(0.5)
    assert j.refusal(waiting.next()).cause == "at_capacity"
    assert [one["what"] for one in waiting.trace.to_json()["steps"]] == ["queued", "refused"]
    assert not rig.pool.waiting


def test_requests_per_minute_are_spread_over_accounts_and_then_over_time_in_the_order_they_came() -> None:
    rig = capped(requests_per_minute=120, max_queue=4)
    assert [j.trying(rig.run().next()).account.name for _ in range(2)] == ["a", "b"]
    waiting = [rig.run() for _ in range(4)]
    assert [j.queueing(one.next()).seconds for one in waiting] == [0.5, 1.0, 1.0, 1.0], "the first waits for its turn"
    for pair in (waiting[:2], waiting[2:]):
        rig.clock.pass_by(0.5)
        assert [j.trying(one.next()).account.name for one in pair] == ["a", "b"]
    assert not rig.pool.waiting
    rig.clock.pass_by(0.5)
    assert j.trying(rig.run().next()).wait == 0.0


def test_no_request_passes_one_that_waits_for_its_turn() -> None:
    """Not even one that comes just when the turn does, and needs fewer tokens."""
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(tokens_per_minute=6000)))
    running = rig.run(Criteria(tokens=6000))
    j.trying(running.next())
    first = rig.run(Criteria(tokens=3000))
    j.queueing(first.next())
    rig.clock.pass_by(20)
    late = rig.run(Criteria(tokens=100))
    assert j.queueing(late.next()).seconds == 1.0
    rig.clock.pass_by(10)
    later = rig.run(Criteria(tokens=100))
    j.queueing(later.next())
    assert j.trying(first.next()).account.name == "a"


def test_a_request_that_finds_a_full_queue_gets_the_time_of_its_turn() -> None:
    rig = capped(requests_per_minute=6, max_queue=2)
    runs = [rig.run() for _ in range(4)]
    for run in runs:
        run.next()
    refusal = j.refusal(rig.run().next())
    # Both accounts have one turn every 10 s, and two requests are before this one.
    assert (refusal.cause, refusal.status, refusal.retry_after, refusal.should_retry) == ("at_capacity", 429, 20, True)
    assert "a: it has 6 requests a minute, the most that [pool] allows" in refusal.message
    choice = rig.pool.selector.report(rig.targets[0], j.ANY)
    assert [one.until for one in choice.passed_over] == [j.NOW + 10, j.NOW + 10]


def test_a_turn_beyond_the_time_a_request_may_take_is_refused_at_once_with_the_true_time() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(requests_per_minute=0.2)))
    rig.run().next()
    refusal = j.refusal(rig.run().next())
    assert (refusal.status, refusal.retry_after, refusal.should_retry) == (429, 300, False)
    rig.clock.pass_by(200)
    assert j.queueing(rig.run().next()).seconds == 1


@pytest.mark.parametrize(("outcome", "wait"), [(j.Run.unavailable, 0), (j.Run.unfit, 0), (j.Run.lost, 10)])
def test_a_rate_counts_what_may_have_been_sent_alone(outcome: Callable[[j.Run, str], None], wait: float) -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(requests_per_minute=6)))
    run = rig.run()
    run.next()
    outcome(run, "it is so")
    assert rig.pool.capacity.delay(rig.group.accounts[0], rig.clock.steady, 0) == wait


def test_a_burst_comes_at_once_and_is_spread_then() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(requests_per_minute=60, burst=3)))
    assert [isinstance(rig.run().next(), SendAttempt) for _ in range(4)] == [True, True, True, False]


def test_tokens_are_reserved_and_settled_by_what_was_used() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(tokens_per_minute=6000)))
    running = rig.run(Criteria(tokens=6000))
    j.trying(running.next())
    j.reply(running, j.OK)
    waiting = rig.run(Criteria(tokens=5000))
    assert j.queueing(waiting.next()).seconds == 1.0
    woken: list[str] = []
    waiting.wake = lambda: woken.append("woken")
    j.giving(running.next()).lease.end(500)
    assert woken == ["woken"], "what was not used is there at once"
    assert j.trying(waiting.next()).account.name == "a"
    over = rig.run(Criteria(tokens=500))
    assert j.trying(over.next()).account.name == "a"
    j.reply(over, j.OK)
    j.giving(over.next()).lease.end(3500)
    assert rig.pool.capacity.delay(rig.group.accounts[0], rig.clock.steady, 10) == pytest.approx(30.1)


def test_a_failed_request_uses_no_tokens() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(tokens_per_minute=6000)))
    for _ in range(5):
        failed = rig.run(Criteria(tokens=6000))
        j.travel(failed, [j.WRONG])
        failed.close()
    j.trying(rig.run(Criteria(tokens=6000)).next())


def test_more_tokens_than_a_minutes_worth_pass_once_nothing_is_owed() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(tokens_per_minute=6000)))
    running = rig.run(Criteria(tokens=12_000))
    j.trying(running.next())
    assert j.refusal(rig.run(Criteria(tokens=12_000)).next()).retry_after == 120
    rig.clock.pass_by(120)
    j.trying(rig.run(Criteria(tokens=12_000)).next())


def test_a_provider_has_limits_for_all_its_accounts_together() -> None:
    rig = j.Rig(settings=PoolSettings(providers={"one": Caps(requests_per_minute=60, max_concurrency=2, burst=9)}))
    running = [rig.run() for _ in range(2)]
    for run in running:
        j.trying(run.next())
    waiting = rig.run()
    j.queueing(waiting.next())
    choice = rig.pool.selector.report(rig.targets[0], j.ANY)
    assert choice.account is None
    assert {one.reason for one in choice.passed_over} == {
        "it has 2 requests at a time, the most that [[providers]] one allows"
    }
    running[0].close()
    j.trying(waiting.next())
    elsewhere = rig.run(targets=[Target(j.group("two", "d"), j.SONNET)])
    assert j.trying(elsewhere.next()).account.name == "d"


def test_a_request_that_was_not_sent_is_not_counted() -> None:
    rig = capped(requests_per_minute=60)
    for _ in range(5):
        run = rig.run()
        run.next()
        run.unavailable("no credential")
        run.next()
        run.unavailable("no credential")
        assert isinstance(run.next(), Reject)
        rig.clock.pass_by(31)
    assert [rig.pool.capacity.delay(one, rig.clock.steady, 0) for one in rig.group.accounts[:2]] == [0.0, 0.0]


def test_a_granted_slot_that_is_not_taken_gives_back_its_turn() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(max_concurrency=1, requests_per_minute=30, burst=2)))
    running, waiting = rig.run(), rig.run()
    j.trying(running.next())
    j.queueing(waiting.next())
    running.close()
    waiting.close()
    assert not rig.pool.capacity.busy
    assert j.trying(rig.run().next()).wait == 0.0


def test_a_turn_that_comes_too_late_leaves_the_next_targets() -> None:
    caps = {"a": AccountSettings(requests_per_minute=0.06), "d": AccountSettings(requests_per_minute=60)}
    rig = j.Rig(("a",), settings=PoolSettings(accounts=caps))
    targets = [*rig.targets, Target(j.group("two", "d"), j.SONNET)]
    runs = [rig.run(targets=targets) for _ in range(3)]
    assert [j.trying(one.next()).account.name for one in runs[:2]] == ["a", "d"]
    assert j.queueing(runs[2].next()).seconds == 1.0
    rig.clock.pass_by(1.0)
    assert j.trying(runs[2].next()).account.name == "d"


def test_workers_share_what_the_caps_allow() -> None:
    """The parts of a whole number add up; rates are divided evenly; nobody is left with nothing."""
    caps = Caps(requests_per_minute=60, tokens_per_minute=6000, burst=4, max_concurrency=5)
    pools = [Pool(PoolSettings(caps=caps)) for _ in range(3)]
    for number, pool in enumerate(pools):
        pool.share_with(Share(number, 3))
    (account,) = j.group("one", "a").accounts
    limiters = [pool.capacity.limiters(account)[0] for pool in pools]
    assert [one.most for one in limiters] == [2, 2, 1]
    for one in limiters:
        one.charge(0.0, 1, 2000)
        assert one.delay(0.0, 2000) == pytest.approx(60.0)
    pools[0].share_with(Share(0, 1))
    assert limiters[0].most == 5
    assert limiters[0].delay(pools[0].monotonic(), 0) == 0.0


def test_whoever_waits_is_served_by_an_account_whose_cooldown_ends_meanwhile() -> None:
    rig = capped(max_concurrency=1)
    j.serve(rig, "b", j.busy(5))
    running = rig.run()
    assert j.trying(running.next()).account.name == "a"
    waiting = rig.run()
    j.queueing(waiting.next())
    rig.clock.pass_by(1)
    j.queueing(waiting.next())
    rig.clock.pass_by(5)
    assert j.trying(waiting.next()).account.name == "b"
    assert not rig.pool.waiting
