"""Who is chosen, and why not the others."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import runs as j
from tokenferry.pool import (
    AccountGroup,
    CooldownAdded,
    CooldownCleared,
    Criteria,
    OrganizationSeen,
    Pool,
    PoolAccount,
    Reject,
    SendAttempt,
    Target,
    affinity_key,
)
from tokenferry.pool._affinity import AffinityTable
from tokenferry.rates import Share
from tokenferry.settings import AccountSettings, Caps, PoolSettings, Strategy
from tokenferry.state import Cooldown, Scope


def told(utilization: float, *, reset: float = 9000.0, window: str = "5h", now: float = j.NOW) -> j.Reply:
    """A good answer that tells how much is used up."""
    name = j.UNIFIED + window.encode()
    return j.Reply(
        200,
        (
            (name + b"-status", b"allowed"),
            (name + b"-utilization", str(utilization).encode()),
            (name + b"-reset", b"%d" % (now + reset)),
        ),
    )


def rig_of(strategy: Strategy, accounts: str = "abc", **options: object) -> j.Rig:
    return j.Rig(tuple(accounts), settings=PoolSettings(strategy=strategy, **options))  # type: ignore[arg-type]


def serve(rig: j.Rig, account: str, answer: j.Reply) -> None:
    """Have exactly this account give this answer."""
    run = rig.run(Criteria(pinned=account))
    assert j.trying(run.next()).account.name == account
    j.reply(run, answer)
    run.close()
    rig.clock.pass_by(2)


# -- strategies


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
    rig = rig_of("round-robin")
    assert [rig.serve()[0] for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    serve(rig, "b", j.limited())
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
    rig = rig_of("least-utilised")
    serve(rig, "a", told(0.7))
    serve(rig, "b", told(0.2))
    serve(rig, "c", told(0.4))
    assert rig.serve() == ["b"]
    rig.clock.pass_by(2)
    serve(rig, "b", told(0.9))
    assert rig.serve() == ["c"]
    rig.clock.pass_by(10_000)  # all windows are new
    assert rig.serve() == ["a"]


def test_a_window_of_another_family_counts_for_nothing() -> None:
    rig = rig_of("least-utilised", "ab")
    serve(rig, "a", told(0.9, window="7d_opus"))
    serve(rig, "b", told(0.5))
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

    rig = rig_of("least-utilised", "ab")
    serve(rig, "a", left(10))
    serve(rig, "b", left(90))
    assert rig.serve() == ["b"]


def test_what_is_made_new_the_soonest_is_drained_first() -> None:
    rig = rig_of("drain-soonest-reset")
    serve(rig, "a", told(0.1, window="7d", reset=500_000))
    serve(rig, "b", told(0.1, window="7d", reset=90_000))
    serve(rig, "c", told(0.1, window="7d", reset=200_000))
    assert rig.serve() == ["b"]
    rig.clock.pass_by(100_000)
    assert rig.serve() == ["c"]


@pytest.mark.parametrize("strategy", ["priority", "round-robin", "least-utilised", "drain-soonest-reset"])
def test_a_providers_own_strategy_counts_before_that_of_the_pool(strategy: Strategy) -> None:
    rig = rig_of(strategy)
    own = AccountGroup("one", rig.group.accounts, "round-robin")
    assert [rig.serve(targets=[Target(own, j.SONNET)])[0] for _ in range(3)] == ["a", "b", "c"]


# -- affinity


def test_a_conversation_and_each_of_its_agents_stays_on_one_account() -> None:
    rig = rig_of("round-robin")
    keys = [affinity_key("k", session="s"), affinity_key("k", session="s", agent="one"), affinity_key("k", session="t")]
    homes = [rig.serve(Criteria(key)) for key in keys]
    assert homes == [["a"], ["b"], ["c"]]
    for _ in range(4):
        assert [rig.serve(Criteria(key)) for key in keys] == homes


def test_requests_are_kept_together_by_session_else_header_else_client() -> None:
    assert affinity_key("k", session="s", declared="d") == affinity_key("k", session="s")
    different = {
        affinity_key("k"),
        affinity_key("l"),
        affinity_key("k", declared="d"),
        affinity_key("k", session="d"),
        affinity_key("k", session="d", agent="e"),
        affinity_key("l", session="d"),
    }
    assert len(different) == 6
    assert len(affinity_key("k", session="s" * 10_000, agent="a" * 10_000)) < 300


def test_a_detour_of_one_request_leaves_the_home_where_it_was() -> None:
    rig = rig_of("round-robin")
    criteria = Criteria("s")
    assert rig.serve(criteria) == ["a"]
    assert rig.serve(criteria, j.OVERLOADED, j.OVERLOADED)[-1] != "a"
    assert rig.serve(criteria) == ["a"]
    assert rig.serve(criteria, j.UNEXPLAINED)[-1] != "a"
    assert rig.serve(criteria) == ["a"]


def test_during_a_short_cooldown_the_conversation_is_a_guest_elsewhere_and_then_comes_home() -> None:
    rig = rig_of("round-robin")
    criteria = Criteria("s")
    assert rig.serve(criteria) == ["a"]
    fallback = rig.serve(criteria, j.busy(60))[-1]
    assert fallback != "a"
    rig.clock.pass_by(20)
    second = rig.serve(criteria)
    assert {rig.serve(criteria)[0] for _ in range(4)} == set(second)
    rig.clock.pass_by(50)
    assert rig.serve(criteria) == ["a"]


def test_in_a_cooldown_that_another_request_started_the_session_has_one_fallback() -> None:
    rig = rig_of("round-robin")
    criteria = Criteria("s")
    assert rig.serve(criteria) == ["a"]
    rig.pool.cooldowns.note(Cooldown(Scope("account", "a"), "rate-limit", "answer", int(j.NOW) + 50))
    assert len({rig.serve(criteria)[0] for _ in range(3)}) == 1
    rig.clock.pass_by(51)
    assert rig.serve(criteria) == ["a"]


def test_in_turn_no_account_gets_more_than_its_cap() -> None:
    rig = rig_of("round-robin", "ab", caps=Caps(max_concurrency=1))
    runs = [rig.run() for _ in range(3)]
    assert [j.trying(run.next()).account.name for run in runs[:2]] == ["a", "b"]
    j.queueing(runs[2].next())


def test_a_long_absence_moves_the_home_for_good() -> None:
    rig = rig_of("round-robin")
    criteria = Criteria("s")
    rig.serve(criteria)
    moved = rig.serve(criteria, j.limited(1000))[-1]
    rig.clock.pass_by(1100)
    assert {rig.serve(criteria)[0] for _ in range(4)} == {moved}


def test_by_priority_a_session_stays_where_it_moved_if_the_priority_is_the_same() -> None:
    rig = rig_of("priority")
    criteria = Criteria("s")
    assert rig.serve(criteria, j.limited(1000)) == ["a", "b"]
    rig.clock.pass_by(1100)
    assert rig.serve() == ["a"]
    assert rig.serve(criteria) == ["b"]


def test_exhaustion_always_beats_affinity() -> None:
    rig = rig_of("priority", "ab")
    criteria = Criteria("s")
    rig.serve(criteria)
    rig.pool.cooldowns.note(Cooldown(Scope("account", "a"), "window", "swap", int(j.NOW) + 50, noted_at=int(j.NOW)))
    assert rig.serve(criteria) == ["b"]


def test_by_priority_a_better_account_takes_its_conversations_back() -> None:
    rig = j.Rig()
    targets = [
        Target(
            AccountGroup("one", (PoolAccount("sub", "one", priority=10), PoolAccount("key", "one", priority=90))),
            j.SONNET,
        )
    ]
    criteria = Criteria("s")
    assert rig.serve(criteria, j.limited(1000), targets=targets) == ["sub", "key"]
    assert rig.serve(criteria, targets=targets) == ["key"]
    rig.clock.pass_by(1100)
    assert rig.serve(criteria, targets=targets) == ["sub"]


def test_a_removed_account_is_no_sessions_home() -> None:
    rig = rig_of("priority")
    criteria = Criteria("s")
    rig.serve(criteria)
    assert rig.serve(criteria, targets=[Target(j.group("one", "b", "c"), j.SONNET)]) == ["b"]


def test_a_report_names_the_account_of_the_session_until_it_is_idle_for_an_hour() -> None:
    rig = rig_of("round-robin")
    criteria = Criteria("s")
    rig.serve()
    assert rig.serve(criteria) == ["b"]
    for seconds, expected in ((1800, "b"), (1800, "b"), (1, "c")):
        rig.clock.pass_by(seconds)
        choice = rig.pool.selector.report(rig.targets[0], criteria)
        assert choice.account is not None
        assert (choice.account.name, choice.reason == "its session uses this account") == (expected, expected == "b")


def test_the_memory_of_homes_is_bounded_and_forgets_what_is_idle() -> None:
    homes = AffinityTable(most=3, idle=10)
    for number in range(5):
        homes.pin("one", str(number), "a", 0.0)
    assert len(homes) == 3
    assert homes.get("one", "1", 1.0) is None
    assert homes.get("one", "2", 9.0) is not None
    homes.pin("one", "5", "a", 9.0)
    assert homes.get("one", "2", 9.0) is not None
    assert homes.get("one", "2", 19.0) is not None
    assert homes.get("one", "2", 29.5) is None


# -- organizations


def test_keys_of_one_organization_share_its_limit() -> None:
    rig = j.Rig()
    # c answers first, so that its organization is known; then a is limited, and with it c, which shares it.
    serve(rig, "c", j.Reply(200, ((b"anthropic-organization-id", b"org"),)))
    assert rig.serve(j.ANY, j.busy(30, "org")) == ["a", "b"]
    passed = {one.account: one.cause for one in rig.pool.selector.report(rig.targets[0], j.ANY).passed_over}
    assert passed == {"a": "rate-limit", "c": "rate-limit"}
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["a"]


def test_an_organization_is_learned_once_and_passed_on() -> None:
    rig = j.Rig()
    for _ in range(3):
        serve(rig, "a", j.Reply(200, ((b"anthropic-organization-id", b"org"),)))
    assert [
        (one.account, one.organization) for one in rig.pool.cooldowns.changes if isinstance(one, OrganizationSeen)
    ] == [("a", "org")]


def test_a_subscriptions_limits_are_its_own_whatever_its_organization() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a", "b", kind="oauth", bills_subscription=True, organization="org"), j.SONNET)]
    assert rig.serve(j.ANY, j.busy(30, "org"), targets=targets) == ["a", "b"]
    assert rig.serve(targets=targets) == ["b"]


# -- cooldowns


@given(st.integers(1, 20_000))
def test_an_account_is_never_passed_over_once_its_time_has_come(seconds: int) -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.busy(seconds))
    rig.clock.pass_by(seconds)
    assert rig.serve() == ["a"]


def test_failures_without_an_end_back_off_longer_each_time_until_a_success() -> None:
    rig = j.Rig(("a", "b"))
    waits = []
    for _ in range(8):
        serve(rig, "a", j.UNPAID)
        (noted,) = rig.pool.cooldowns.of("account", "a")
        assert noted.until is not None
        waits.append(noted.until - noted.noted_at)
        assert rig.serve() == ["b"], "what another account serves changes nothing"
        rig.clock.pass_by(61)
        assert rig.serve(Criteria(pinned="a", side="/v1/models")) == ["a"], "nor what a side route does"
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    serve(rig, "a", j.OK)
    assert not rig.pool._failures


def test_select_tells_of_every_account_whether_it_would_serve_and_why_not() -> None:
    rig = j.Rig(("a", "b", "c", "d", "e"), settings=PoolSettings(accounts={"b": AccountSettings(max_concurrency=1)}))
    serve(rig, "a", j.limited())
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
    rig = rig_of("priority", "a", overage="avoid")
    for cause, seconds in (("overage", 9000), ("window", 600)):
        rig.pool.cooldowns.note(
            Cooldown(Scope("account", "a"), cause, "answer", int(j.NOW) + seconds, noted_at=int(j.NOW))
        )
    assert j.refusal(rig.run().next()).cause == "exhausted"
    rig.clock.pass_by(601)
    assert rig.serve() == ["a"]


def test_the_limits_in_an_accounts_good_answers_are_read_once_a_second() -> None:
    rig = rig_of("priority")
    seen = []
    for utilization in (0.1, 0.3, 0.5):
        rig.serve(j.ANY, told(utilization))
        seen.append(rig.pool.usage.states()["a"].windows[0].utilization)
        rig.clock.pass_by(0.5)
    assert seen == [0.1, 0.1, 0.5]


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
    rig = rig_of(strategy)
    for _ in range(2):
        assert rig.pool.selector.report(rig.targets[0], j.ANY).reason == reason
    assert rig.serve() == ["a"], "a report takes no turn"


def test_a_report_says_that_an_account_comes_first_because_others_cannot_serve() -> None:
    rig = rig_of("priority")
    rig.serve(j.ANY, j.limited())
    assert rig.pool.selector.report(rig.targets[0], j.ANY).reason == "it is the first in order that can serve"


def test_an_account_billed_beyond_its_subscription_comes_last_and_its_sessions_move_for_good() -> None:
    rig = rig_of("round-robin", "ab", overage="avoid")
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
    rig = rig_of("round-robin", "ab", overage="avoid")
    for name in "ab":
        rig.pool.cooldowns.note(Cooldown(Scope("account", name), "overage", "answer", int(j.NOW) + 9000))
    assert len({rig.serve(Criteria("s"))[0] for _ in range(3)}) == 1


@pytest.mark.parametrize("strategy", ["priority", "least-utilised"])
def test_the_order_of_the_accounts_is_found_once_until_a_cooldown_changes_it(strategy: Strategy) -> None:
    rig = rig_of(strategy)

    def find() -> object:
        return rig.pool._candidates.get(rig.targets[0], j.ANY, rig.clock.wall, rig.clock.steady)

    first = find()
    rig.serve(j.ANY, told(0.5))
    assert find() is first
    rig.serve(j.ANY, j.limited())
    assert find() is not first


# -- probes


def test_who_is_benched_long_is_tried_now_and_then_by_a_request_that_could_still_go_elsewhere() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited(9000))
    began, probes = rig.clock.wall, []
    while rig.clock.wall < began + 5000:
        rig.clock.pass_by(10)
        run = rig.run()
        step = j.trying(run.next())
        if step.is_probe:
            assert step.account.name == "a"
            probes.append(rig.clock.wall - began)
            j.reply(run, j.limited(9000))
            step = j.trying(run.next())
        assert step.account.name == "b"
        j.reply(run, j.OK)
        run.close()
    gaps = [later - earlier for earlier, later in pairwise([0.0, *probes])]
    assert gaps[0] >= 60
    assert all(later >= earlier for earlier, later in pairwise(gaps))
    assert 4 <= len(probes) <= 7


def test_a_probe_that_goes_well_ends_the_cooldown_everywhere() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited(9000))
    rig.clock.pass_by(61)
    assert rig.serve() == ["a"]
    assert rig.serve() == ["a"]
    assert isinstance(rig.pool.cooldowns.changes[-1], CooldownCleared)


@pytest.mark.parametrize("name", ["limited", "busy"])
def test_a_clock_that_is_set_back_keeps_no_account_away(name: str) -> None:
    rig = j.Rig(["a", "b"])
    reply = j.limited() if name == "limited" else j.busy()
    assert rig.serve(j.ANY, reply) == ["a", "b"]
    rig.clock.wall -= 250  # clocks of hosts may differ so much
    assert rig.serve(j.ANY) == ["b"]
    rig.clock.wall -= 86_400
    assert rig.serve(j.ANY) == ["a"]
    assert rig.serve(j.ANY, reply) == ["a", "b"]
    rig.clock.pass_by(1)
    assert rig.serve(j.ANY) == ["b"]


def test_one_probe_at_a_time() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited(9000))
    rig.clock.pass_by(61)
    first, second = rig.run(), rig.run()
    assert j.trying(first.next()).is_probe
    assert not j.trying(second.next()).is_probe
    second.close()
    rig.clock.pass_by(200)
    assert rig.serve() == ["b"]  # however long it takes
    first.close()
    rig.clock.pass_by(-200)
    assert not j.trying(rig.run().next()).is_probe  # nothing was found out, and it isn't asked again at once


def until_asked(rig: j.Rig, account: str) -> tuple[float, j.Run]:
    """The seconds until a request asks this account first, and that request."""
    for seconds in range(0, 2000, 10):
        run = rig.run()
        if j.trying(run.next()).account.name == account:
            return seconds, run
        run.close()
        rig.clock.pass_by(10)
    raise AssertionError(account)


LIMITED = j.limited(9000)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((j.FAILED,), 60),
        ((LIMITED, LIMITED, LIMITED), 480),
        ((LIMITED, j.FAILED), 120),
        ((LIMITED, j.OK, LIMITED), 60),
    ],
)
def test_only_a_probe_that_finds_the_limit_again_makes_the_next_one_later(
    answers: tuple[j.Reply, ...], expected: float
) -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, LIMITED)
    for answer in answers:
        _, run = until_asked(rig, "a")
        j.reply(run, answer)
        run.close()
    assert until_asked(rig, "a")[0] == expected


def test_a_probe_takes_no_slot_beyond_the_cap() -> None:
    rig = j.Rig(("a",), settings=PoolSettings(caps=Caps(max_concurrency=1)))
    rig.serve(j.ANY, j.limited(9000))
    rig.clock.pass_by(61)
    side = rig.run(Criteria(side="/v1/models"))
    j.trying(side.next())
    j.refusal(rig.run().next())
    side.close()
    assert j.trying(rig.run().next()).is_probe


def test_a_probe_whose_login_has_no_other_token_makes_the_next_one_later() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a", "b", kind="oauth"), j.SONNET)]
    for _ in range(2):
        run = rig.run(targets=targets)
        assert j.trying(run.next()).account.name == "a"
        j.reply(run, j.REFUSED)
        assert j.trying(run.next()).renew
        run.not_renewed("its refresh token is dead")
        run.close()
        rig.clock.pass_by(61)
    assert rig.serve(targets=targets) == ["b"]
    rig.clock.pass_by(60)
    assert rig.serve(targets=targets) == ["a"]


def test_a_request_probes_no_account_of_a_provider_that_it_comes_to_later() -> None:
    rig = j.Rig(("a", "b"))
    targets = [rig.targets[0], Target(j.group("two", "d", "e"), j.SONNET)]
    rig.serve(j.ANY, j.limited(9000), targets=targets[1:])
    rig.clock.pass_by(61)
    assert rig.serve(j.ANY, j.FAILED, targets=targets) == ["a", "e"]
    assert rig.serve(targets=targets[1:]) == ["d"]


def test_a_probe_that_learns_an_earlier_end_moves_the_cooldowns_end() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.limited(9000))
    rig.clock.pass_by(61)
    assert rig.serve(j.ANY, j.limited(100, now=rig.clock.wall)) == ["a", "b"]
    (noted,) = rig.pool.cooldowns.of("account", "a")
    assert noted.until is not None
    assert noted.until <= rig.clock.wall + 131


def test_what_ends_within_a_minute_is_waited_for() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.busy(120))
    rig.clock.pass_by(100)
    assert rig.serve() == ["b"]


def test_a_subscription_with_a_usage_endpoint_is_not_probed_by_requests_while_others_serve() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a", "b", has_usage_url=True, bills_subscription=True), j.SONNET)]
    rig.serve(j.ANY, j.limited(9000), targets=targets)
    rig.clock.pass_by(4000)
    assert rig.serve(targets=targets) == ["b"]
    rig.serve(j.ANY, j.limited(9000, now=rig.clock.wall), targets=targets)
    rig.clock.pass_by(61)
    assert rig.serve(targets=targets) == ["a"]  # nobody else is left


@given(st.data())
def test_an_account_that_recovers_early_serves_again_within_a_minute_if_no_other_can(data: st.DataObject) -> None:
    """No cooldown outlives recovery: not one of hours, and not one without an end."""
    rig = j.Rig(("a", "b"))
    answers = [j.limited(17_000), j.limited(500_000, window="7d"), j.BROKE, j.UNPAID, j.REFUSED]
    truth = {name: data.draw(st.sampled_from(answers)) for name in "ab"}
    recovers = {name: rig.clock.wall + data.draw(st.integers(0, 4000)) for name in "ab"}
    served_at = None
    while served_at is None and rig.clock.wall < j.NOW + 5000:
        run = rig.run()
        while isinstance(step := run.next(), SendAttempt):
            name = step.account.name
            if rig.clock.wall >= recovers[name]:
                served_at = rig.clock.wall
                j.reply(run, j.OK)
            else:
                j.reply(run, truth[name])
        run.close()
        rig.clock.pass_by(1)
    assert served_at is not None
    assert served_at <= min(recovers.values()) + 62


def test_where_all_are_benched_a_request_finds_out_about_few_of_them() -> None:
    rig = j.Rig([f"a{number}" for number in range(9)], settings=PoolSettings(max_attempts=20))
    j.travel(rig.run(), [j.limited()] * 9)
    rig.clock.pass_by(61)
    tried, step = j.travel(rig.run(), [j.limited()] * 9)
    assert len(tried) == 3
    assert j.refusal(step).cause == "exhausted"
    assert len(j.travel(rig.run(), [j.limited()] * 9)[0]) == 3


def test_a_credential_that_the_vendor_takes_from_claude_code_alone_is_never_probed() -> None:
    rig = j.Rig(("a", "b"))
    message = "This credential is only authorized for use with Claude Code."
    refusal = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()
    run = rig.run()
    run.next()
    j.reply(run, j.Reply(400, (), refusal))
    j.giving(run.next())
    rig.clock.pass_by(500_000)
    assert rig.serve() == ["b"]
    assert j.refusal(rig.run(Criteria(pinned="a")).next()).retry_after is None


# -- caps


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
    serve(rig, "b", j.busy(5))
    running = rig.run()
    assert j.trying(running.next()).account.name == "a"
    waiting = rig.run()
    j.queueing(waiting.next())
    rig.clock.pass_by(1)
    j.queueing(waiting.next())
    rig.clock.pass_by(5)
    assert j.trying(waiting.next()).account.name == "b"
    assert not rig.pool.waiting


# -- quota


def test_a_threshold_is_warned_about_once_and_again_after_a_roll_over(caplog: pytest.LogCaptureFixture) -> None:
    rig = rig_of("priority", quota_warning=0.8)

    def warnings() -> int:
        return caplog.text.count("of its window 5h")

    serve(rig, "a", told(0.5))
    assert warnings() == 0
    serve(rig, "a", told(0.85))
    assert "account a has used up 85 % of its window 5h" in caplog.text
    for jitter in (1, -2, 2, 0):
        serve(rig, "a", told(0.9, reset=9000 + jitter))
    assert warnings() == 1
    serve(rig, "b", told(0.9))
    assert warnings() == 2
    serve(rig, "a", told(0.9, reset=9000 + 18_000))
    assert warnings() == 3


# -- overage


def billed(rig: j.Rig) -> j.Reply:
    headers = (
        (j.UNIFIED + b"status", b"allowed"),
        (j.UNIFIED + b"representative-claim", b"overage"),
        (j.UNIFIED + b"overage-status", b"allowed"),
        (j.UNIFIED + b"5h-status", b"rejected"),
        (j.UNIFIED + b"5h-reset", b"%d" % (rig.clock.wall + 5000)),
    )
    return j.Reply(200, headers)


def test_an_account_that_bills_beyond_its_subscription_serves_as_the_operator_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    allowed, avoided, refused = (rig_of("priority", "ab", overage=one) for one in ("allow", "avoid", "refuse"))
    for rig in (allowed, avoided, refused):
        serve(rig, "a", billed(rig))
        assert caplog.text.count("account a: its use is now billed beyond its subscription") == 1
        serve(rig, "a", billed(rig)) if rig is not refused else None
        assert caplog.text.count("account a: its use is now billed beyond its subscription") == 1
        caplog.clear()
    assert allowed.serve() == ["a"]
    assert not allowed.pool.cooldowns.changes, "who isn't passed over is not listed as such"
    assert avoided.serve() == ["b"]
    assert refused.serve() == ["b"]
    for rig in (avoided, refused):
        serve(rig, "b", j.limited(90_000, window="7d", now=rig.clock.wall))
    assert avoided.serve() == ["a"]
    assert "a: its use is now billed beyond its subscription" in j.refusal(refused.run().next()).message
    for rig in (avoided, refused):
        rig.clock.pass_by(5000)
        rig.serve()  # finds out whether the other one must still be passed over
        assert rig.serve() == ["a"]


# -- records


def test_findings_are_passed_on_to_be_stored() -> None:
    rig = j.Rig()
    rig.serve(j.ANY, j.limited())
    (change,) = rig.pool.cooldowns.changes
    assert isinstance(change, CooldownAdded)
    cooldown = change.cooldown
    assert (cooldown.scope, cooldown.cause, cooldown.source) == (Scope("account", "a"), "window", "answer")
    assert cooldown.noted_at == int(j.NOW)
    assert cooldown.until is not None
    assert datetime.fromtimestamp(cooldown.until, UTC).year == 2027


def test_no_flood_of_invented_models_keeps_what_is_found_out_of_a_model_from_counting() -> None:
    rig = j.Rig()
    for number in range(1100):
        rig.serve(j.ANY, j.FORBIDDEN, targets=[Target(rig.group, f"invented-{number}")])
    rig.serve(j.ANY, j.FORBIDDEN)
    assert rig.serve() == ["b"]
    assert len(rig.pool.cooldowns.narrow) == 1000


def test_settings_may_change_while_requests_are_under_way() -> None:
    rig = j.Rig()
    run = rig.run()
    run.next()
    rig.pool.configure(PoolSettings(strategy="round-robin", max_attempts=1))
    j.reply(run, j.limited())
    assert j.trying(run.next()).account.name == "b"
    assert json.dumps(run.trace.to_json())


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
