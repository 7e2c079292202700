"""What accounts refuse for one model or one route alone is remembered for 5 minutes, and benches nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import runs as j
from tokenferry.pool import AccountGroup, Criteria, Pool, PoolAccount, SendAttempt, Target
from tokenferry.pool._recent_refusals import RecentRefusals

COUNT = "/v1/messages/count_tokens"
SIDE = Criteria(side=COUNT)
REFUSALS = [j.REFUSED, j.FORBIDDEN, j.UNPAID, j.MISSING, j.BROKE, j.busy(900), j.busy(900, "org"), j.limited()]


@given(st.lists(st.sampled_from([*REFUSALS, j.FAILED, j.OVERLOADED, j.WRONG]), max_size=12), st.integers(1, 3))
def test_no_answer_of_a_side_route_starts_a_cooldown_for_messages(replies: list[j.Reply], accounts: int) -> None:
    rig = j.Rig("abc"[:accounts])
    for reply in replies:
        j.travel(rig.run(SIDE), [reply] * 8, rig.clock)
    assert not [change for change in rig.pool.cooldowns.changes if hasattr(change, "cooldown")]
    assert rig.serve() == ["a"]


@pytest.mark.parametrize("reply", REFUSALS)
def test_an_account_that_a_side_route_refused_comes_last_there_for_5_minutes(reply: j.Reply) -> None:
    rig = j.Rig(("a", "b"))
    assert rig.serve(SIDE, reply) == ["a", "b"]
    assert rig.serve(SIDE) == ["b"]
    assert rig.serve(Criteria(side="/v1/models")) == ["a"], "of another route it says nothing"
    rig.clock.pass_by(301)
    assert rig.serve(SIDE) == ["a"]


def test_the_only_account_is_asked_again() -> None:
    rig = j.Rig(("a",))
    for _ in range(3):
        tried, step = j.travel(rig.run(SIDE), [j.FORBIDDEN], rig.clock)
        assert tried == ["a"]
        j.giving(step)


def test_no_connection_counts_for_messages_as_well() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a"), j.SONNET), Target(j.group("two", "d"), j.SONNET)]
    run = rig.run(SIDE, targets)
    run.next()
    run.unsent("connection refused")
    assert rig.serve(targets=targets) == ["d"]


def test_a_side_route_renews_a_refused_login_once_and_not_again_while_that_is_remembered() -> None:
    rig = j.Rig()
    targets = [Target(AccountGroup("one", (PoolAccount("a", "one", "oauth"),)), j.SONNET)]
    renewals = 0
    for _ in range(10):
        run = rig.run(SIDE, targets)
        while isinstance(step := run.next(), SendAttempt):
            renewals += step.renew
            j.reply(run, j.REFUSED)
        rig.clock.pass_by(10)
    assert renewals == 1
    assert rig.serve(targets=targets) == ["a"]


def test_a_good_answer_of_a_side_route_says_nothing_about_messages() -> None:
    """What is limited for messages may still count tokens, and doing so ends no cooldown."""
    rig = j.Rig(("a",))
    rig.serve(j.ANY, j.limited(9000))
    for _ in range(3):
        rig.clock.pass_by(1)
        assert rig.serve(SIDE) == ["a"]
        assert j.refusal(rig.run().next()).cause == "exhausted"


def test_a_refused_credential_is_not_presented_on_side_routes() -> None:
    rig = j.Rig(("a",))
    rig.serve(j.ANY, j.REFUSED)
    assert j.refusal(rig.run(SIDE).next()).cause == "no_usable_account"


# -- 404


def test_a_model_that_an_account_cannot_see_is_asked_of_one_sibling_and_of_others_first_for_5_minutes() -> None:
    rig = j.Rig(("a", "b", "c"))
    assert rig.serve(j.ANY, j.MISSING) == ["a", "b"]
    assert rig.serve() == ["b"]
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["a"], "another model"
    rig.clock.pass_by(301)
    assert rig.serve() == ["a"]


def test_whoever_sees_it_again_is_asked_first_again() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.MISSING)
    rig.serve(j.ANY, j.MISSING)  # now neither of them saw it
    assert rig.serve() == ["a"]
    assert rig.serve() == ["a"]


def test_a_model_that_no_account_has_is_asked_of_two_accounts_and_their_answer_passes() -> None:
    rig = j.Rig(("a", "b", "c", "d"))
    for _ in range(5):
        tried, step = j.travel(rig.run(), [j.MISSING] * 4, rig.clock)
        assert 1 <= len(tried) <= 2
        j.giving(step)


def test_a_provider_none_of_whose_accounts_sees_it_comes_after_the_next_target() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a", "b"), j.SONNET), Target(j.group("two", "d"), j.SONNET)]
    assert rig.serve(j.ANY, j.MISSING, j.MISSING, targets=targets) == ["a", "b", "d"]
    assert rig.serve(targets=targets) == ["d"]
    assert rig.serve(j.ANY, j.MISSING, targets=targets) == ["d"], (
        "its answer passes: the others were just told the same"
    )


def test_select_says_that_an_account_comes_last() -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.MISSING)
    choice = rig.pool.selector.report(rig.targets[0], j.ANY)
    assert choice.account is not None
    assert choice.account.name == "b"
    assert choice.passed_over[0].reason == "it refused this model less than 5 minutes ago, so others come first"


def test_a_conversation_that_lives_on_such_an_account_makes_a_detour() -> None:
    rig = j.Rig(("a", "b"))
    criteria = Criteria("key\nsession\n")
    rig.serve(criteria)
    rig.serve(criteria, j.MISSING)
    assert rig.serve(criteria) == ["b"]
    rig.clock.pass_by(301)
    assert rig.serve(criteria) == ["a"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40))))
def test_invented_models_and_paths_are_forgotten(told: list[tuple[str, int]]) -> None:
    refusing = RecentRefusals(most=10)
    for account, number in told:
        refusing.put(account, ("model", str(number)), 0.0)
        assert len(refusing) <= 10
        assert account in refusing.accounts(("model", str(number)), 299.0)
    for number in range(41):
        assert not refusing.accounts(("model", str(number)), 300.0)
    assert not refusing


def test_an_account_that_serves_forgets_its_own_refusal_alone() -> None:
    refusing = RecentRefusals()
    for account in "ab":
        refusing.put(account, ("model", "m"), 0.0)
    refusing.drop("a", ("model", "m"))
    assert refusing.accounts(("model", "m"), 1.0) == {"b"}
    refusing.drop("b", ("model", "m"))
    assert not refusing


def test_of_too_many_refused_models_the_oldest_is_forgotten() -> None:
    refusing = RecentRefusals(most=2)
    for model in "mno":
        refusing.put("a", ("model", model), 0.0)
    assert [name for _, name in refusing] == ["n", "o"]


def test_the_account_s_own_credential_has_a_pool_of_its_own() -> None:
    """A client's own credential is nobody's account, and what it was refused says nothing about any."""
    pool = Pool()
    run = j.Run(pool, [Target(j.group("one", "own"), j.SONNET)], Criteria(side=COUNT))
    run.next()
    j.reply(run, j.FORBIDDEN)
    j.giving(run.next())
