"""Which account serves, and why not the others."""

import json
from collections import Counter

import pytest

from pool import runs as j
from tokenferry.pool import (
    AccountGroup,
    Criteria,
    Pool,
    PoolAccount,
    Target,
)
from tokenferry.settings import AccountSettings, Caps, PoolSettings, Strategy
from tokenferry.state import Cooldown, Scope


def test_by_priority_the_first_ready_one_serves_in_order_of_priority_then_of_the_list() -> None:
    rig = j.Rig()
    accounts = [
        PoolAccount("late", "one", priority=200),
        PoolAccount("x", "one"),
        PoolAccount("y", "one"),
        PoolAccount("early", "one", priority=1),
    ]
    targets = [Target(AccountGroup("one", tuple(accounts)), j.SONNET)]
    assert [rig.serve(targets=targets) for _ in range(2)] == [["early"], ["early"]]
    assert rig.serve(j.ANY, *[j.limited()] * 3, targets=targets) == ["early", "x", "y", "late"]


def test_round_robin_takes_turns_among_those_that_are_ready() -> None:
    rig = j.rig_of("round-robin")
    assert [rig.serve()[0] for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    j.serve(rig, "b", j.limited())
    assert Counter(rig.serve()[0] for _ in range(10)) == {"a": 5, "c": 5}


def test_gateways_that_share_accounts_find_the_same_one_for_a_conversation_by_themselves() -> None:
    accounts = j.group("one", *"abcd")
    target, settings = Target(accounts, j.SONNET), PoolSettings(strategy="round-robin")
    pools = [Pool(settings, is_shared=True, now=lambda: j.NOW, monotonic=lambda: 1000.0) for _ in range(3)]
    pools[2].cooldowns.adopt([Cooldown(Scope("account", "b"), "window", "answer", int(j.NOW) + 9000)], {}, 0)

    def home(pool: Pool, conversation: str) -> str:
        found = pool.selector.select(target, Criteria(conversation))
        assert found is not None
        assert found.why == "its conversation falls to it, on every host"
        return found.account.name

    homes = [[home(pool, f"conversation {number}") for number in range(200)] for pool in pools]
    assert homes[0] == homes[1]
    assert all(40 <= count <= 60 for count in Counter(homes[0]).values())
    assert {(one, other) for one, other in zip(homes[0], homes[2], strict=True) if one != other} == {
        ("b", other) for other in "acd"
    }


def test_where_gateways_share_accounts_one_at_its_cap_or_billed_beyond_its_plan_is_passed_over() -> None:
    settings = PoolSettings(strategy="round-robin", overage="avoid", caps=Caps(max_concurrency=20))
    pool = Pool(settings, is_shared=True, now=lambda: j.NOW, monotonic=lambda: 1000.0)
    pool.cooldowns.note(Cooldown(Scope("account", "a"), "overage", "answer", int(j.NOW) + 9000))
    targets = [Target(j.group("one", *"abc"), j.SONNET)]
    runs = [j.Run(pool, targets, Criteria(f"conversation {number}")) for number in range(45)]
    assert Counter(j.trying(run.next()).account.name for run in runs) == {"a": 5, "b": 20, "c": 20}


def test_the_least_utilised_serves_and_what_is_unknown_counts_as_unused() -> None:
    rig = j.rig_of("least-utilised")
    j.serve(rig, "a", j.usage_reply(0.7))
    j.serve(rig, "b", j.usage_reply(0.2))
    j.serve(rig, "c", j.usage_reply(0.4))
    assert rig.serve() == ["b"]
    rig.clock.pass_by(2)
    j.serve(rig, "b", j.usage_reply(0.9))
    assert rig.serve() == ["c"]
    rig.clock.pass_by(10_000)  # all windows are new
    assert rig.serve() == ["a"]


def test_a_window_of_another_family_counts_for_nothing() -> None:
    rig = j.rig_of("least-utilised", "ab")
    j.serve(rig, "a", j.usage_reply(0.9, window="7d_opus"))
    j.serve(rig, "b", j.usage_reply(0.5))
    assert rig.serve() == ["a"]
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["b"]


def test_keys_are_compared_by_their_fullest_bucket() -> None:
    def left(remaining: int) -> j.Reply:
        return j.Reply(
            200,
            (
                (b"anthropic-ratelimit-tokens-limit", b"100"),
                (b"anthropic-ratelimit-tokens-remaining", b"%d" % remaining),
            ),
        )

    rig = j.rig_of("least-utilised", "ab")
    j.serve(rig, "a", left(10))
    j.serve(rig, "b", left(90))
    assert rig.serve() == ["b"]


def test_what_is_made_new_the_soonest_is_drained_first() -> None:
    rig = j.rig_of("drain-soonest-reset")
    j.serve(rig, "a", j.usage_reply(0.1, window="7d", reset=500_000))
    j.serve(rig, "b", j.usage_reply(0.1, window="7d", reset=90_000))
    j.serve(rig, "c", j.usage_reply(0.1, window="7d", reset=200_000))
    assert rig.serve() == ["b"]
    rig.clock.pass_by(100_000)
    assert rig.serve() == ["c"]


@pytest.mark.parametrize("strategy", ["priority", "round-robin", "least-utilised", "drain-soonest-reset"])
def test_a_providers_own_strategy_counts_before_that_of_the_pool(strategy: Strategy) -> None:
    rig = j.rig_of(strategy)
    own = AccountGroup("one", rig.group.accounts, "round-robin")
    assert [rig.serve(targets=[Target(own, j.SONNET)])[0] for _ in range(3)] == ["a", "b", "c"]


def test_select_tells_of_every_account_whether_it_would_serve_and_why_not() -> None:
    rig = j.Rig(("a", "b", "c", "d", "e"), settings=PoolSettings(accounts={"b": AccountSettings(max_concurrency=1)}))
    j.serve(rig, "a", j.limited())
    busy = rig.run(Criteria(pinned="b"))
    busy.next()
    choice = rig.pool.selector.report(rig.targets[0], Criteria(allowed=frozenset("abcd")), frozenset("c"))
    assert choice.account is not None
    assert choice.account.name == "d"
    assert {one.account: one.reason for one in choice.passed_over} == {
        "a": "The account has used up its window 5h.",
        "b": "it has 1 requests at a time, the most that [accounts.b] allows",
        "c": "it was tried",
        "e": "its client key may not use it",
    }
    busy.close()
    assert rig.pool.selector.report(rig.targets[0], j.ANY).passed_over[2].reason == "it could serve, but comes later"


def test_an_account_that_is_blocked_and_billed_beyond_its_subscription_is_blocked() -> None:
    rig = j.rig_of("priority", "a", overage="avoid")
    for cause, seconds in (("overage", 9000), ("window", 600)):
        rig.pool.cooldowns.note(
            Cooldown(Scope("account", "a"), cause, "answer", int(j.NOW) + seconds, noted_at=int(j.NOW))
        )
    assert j.refusal(rig.run().next()).cause == "exhausted"
    rig.clock.pass_by(601)
    assert rig.serve() == ["a"]


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("priority", "it comes first in order"),
        ("round-robin", "it is its turn"),
        ("least-utilised", "it has used the least of its limits"),
        ("drain-soonest-reset", "its limit resets first"),
    ],
)
def test_a_report_says_why_its_strategy_selects_the_account(strategy: Strategy, reason: str) -> None:
    rig = j.rig_of(strategy)
    for _ in range(2):
        assert rig.pool.selector.report(rig.targets[0], j.ANY).reason == reason
    assert rig.serve() == ["a"], "a report takes no turn"


def test_a_report_says_that_an_account_comes_first_because_others_cannot_serve() -> None:
    rig = j.rig_of("priority")
    rig.serve(j.ANY, j.limited())
    assert rig.pool.selector.report(rig.targets[0], j.ANY).reason == "it is the first in order that can serve"


def test_an_account_billed_beyond_its_subscription_comes_last_and_its_sessions_move_for_good() -> None:
    rig = j.rig_of("round-robin", "ab", overage="avoid")
    session, end = Criteria("s"), int(j.NOW) + 600
    assert rig.serve(session) == ["a"]
    rig.pool.cooldowns.note(Cooldown(Scope("account", "a"), "overage", "answer", end))
    assert [rig.serve() for _ in range(3)] == [["b"]] * 3
    assert rig.serve(j.ANY, j.UNEXPLAINED) == ["b", "a"]
    (passed,) = (one for one in rig.pool.selector.report(rig.targets[0], j.ANY).passed_over if one.account == "a")
    assert (passed.reason, passed.until) == ("its use is billed beyond its subscription", end)
    assert rig.serve(session) == ["b"]
    rig.clock.pass_by(601)
    assert rig.serve(session) == ["b"]


def test_a_session_stays_where_every_account_is_billed_beyond_its_subscription() -> None:
    rig = j.rig_of("round-robin", "ab", overage="avoid")
    for name in "ab":
        rig.pool.cooldowns.note(Cooldown(Scope("account", name), "overage", "answer", int(j.NOW) + 9000))
    assert len({rig.serve(Criteria("s"))[0] for _ in range(3)}) == 1


@pytest.mark.parametrize("strategy", ["priority", "least-utilised"])
def test_the_order_of_the_accounts_is_found_once_until_a_cooldown_changes_it(strategy: Strategy) -> None:
    rig = j.rig_of(strategy)

    def find() -> object:
        return rig.pool._candidates.get(rig.targets[0], j.ANY, rig.clock.wall, rig.clock.steady)

    first = find()
    rig.serve(j.ANY, j.usage_reply(0.5))
    assert find() is first
    rig.serve(j.ANY, j.limited())
    assert find() is not first


def test_a_pause_ends_by_itself_and_lets_no_request_through_before() -> None:
    rig = j.Rig(("a",))
    group = AccountGroup("here", (PoolAccount("a", "here", paused_until=j.NOW + 600),))
    target = Target(group, "claude-sonnet-5")
    pool = rig.pool
    for criteria in (Criteria(), Criteria(side="/v1/messages/count_tokens")):
        assert pool.selector.select(target, criteria, is_first=True) is None
        assert pool.selector.select_probe(target, criteria, frozenset()) is None
    (passed,) = pool.selector.report(target, Criteria()).passed_over
    assert (passed.cause, passed.until, passed.reason) == ("paused", j.NOW + 600, "It is paused.")
    rig.clock.pass_by(601)
    chosen = pool.selector.select(target, Criteria(), is_first=True)
    assert chosen is not None
    assert chosen.account.name == "a"


def test_settings_may_change_while_requests_are_under_way() -> None:
    rig = j.Rig()
    run = rig.run()
    run.next()
    rig.pool.configure(PoolSettings(strategy="round-robin", max_attempts=1))
    j.reply(run, j.limited())
    assert j.trying(run.next()).account.name == "b"
    assert json.dumps(run.trace.to_json())
