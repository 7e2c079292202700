"""Requests of a session stay on one account."""

from pool import runs as j
from tokenferry.pool import (
    AccountGroup,
    Criteria,
    PoolAccount,
    Target,
    affinity_key,
)
from tokenferry.pool._affinity import AffinityTable
from tokenferry.settings import Caps
from tokenferry.state import Cooldown, Scope


def test_a_conversation_and_each_of_its_agents_stays_on_one_account() -> None:
    rig = j.rig_of("round-robin")
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
    rig = j.rig_of("round-robin")
    criteria = Criteria("s")
    assert rig.serve(criteria) == ["a"]
    assert rig.serve(criteria, j.OVERLOADED, j.OVERLOADED)[-1] != "a"
    assert rig.serve(criteria) == ["a"]
    assert rig.serve(criteria, j.UNEXPLAINED)[-1] != "a"
    assert rig.serve(criteria) == ["a"]


def test_during_a_short_cooldown_the_conversation_is_a_guest_elsewhere_and_then_comes_home() -> None:
    rig = j.rig_of("round-robin")
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
    rig = j.rig_of("round-robin")
    criteria = Criteria("s")
    assert rig.serve(criteria) == ["a"]
    rig.pool.cooldowns.note(Cooldown(Scope("account", "a"), "rate-limit", "answer", int(j.NOW) + 50))
    assert len({rig.serve(criteria)[0] for _ in range(3)}) == 1
    rig.clock.pass_by(51)
    assert rig.serve(criteria) == ["a"]


def test_in_turn_no_account_gets_more_than_its_cap() -> None:
    rig = j.rig_of("round-robin", "ab", caps=Caps(max_concurrency=1))
    runs = [rig.run() for _ in range(3)]
    assert [j.trying(run.next()).account.name for run in runs[:2]] == ["a", "b"]
    j.queueing(runs[2].next())


def test_a_long_absence_moves_the_home_for_good() -> None:
    rig = j.rig_of("round-robin")
    criteria = Criteria("s")
    rig.serve(criteria)
    moved = rig.serve(criteria, j.limited(1000))[-1]
    rig.clock.pass_by(1100)
    assert {rig.serve(criteria)[0] for _ in range(4)} == {moved}


def test_by_priority_a_session_stays_where_it_moved_if_the_priority_is_the_same() -> None:
    rig = j.rig_of("priority")
    criteria = Criteria("s")
    assert rig.serve(criteria, j.limited(1000)) == ["a", "b"]
    rig.clock.pass_by(1100)
    assert rig.serve() == ["a"]
    assert rig.serve(criteria) == ["b"]


def test_exhaustion_always_beats_affinity() -> None:
    rig = j.rig_of("priority", "ab")
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
    rig = j.rig_of("priority")
    criteria = Criteria("s")
    rig.serve(criteria)
    assert rig.serve(criteria, targets=[Target(j.group("one", "b", "c"), j.SONNET)]) == ["b"]


def test_a_report_names_the_account_of_the_session_until_it_is_idle_for_an_hour() -> None:
    rig = j.rig_of("round-robin")
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
