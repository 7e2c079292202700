"""What one client key's own request was refused for does not stop the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import runs as j
from tokenferry.pool import AccountGroup, Criteria, PoolAccount, SendAttempt, Target
from tokenferry.pool._unconfirmed import UnconfirmedRefusals
from tokenferry.state import Cooldown, Scope

BARE = j.Reply(429, ((b"anthropic-ratelimit-requests-limit", b"50"),))
USED_UP = j.Reply(429, (), b'{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}')
NOT_ALLOWED = j.Reply(
    403,
    (),
    b'{"error":{"type":"permission_error","message":'
    b'"OAuth authentication is currently not allowed for this organization."}}',
)
DOUBTFUL = [j.REFUSED, j.FORBIDDEN, NOT_ALLOWED, BARE, USED_UP]
GUEST, OTHER, THIRD = Criteria("guest\nsession\n"), Criteria("other"), Criteria("third")


def login(*names: str) -> list[Target]:
    return [Target(AccountGroup("one", tuple(PoolAccount(name, "one", "oauth") for name in names)), j.SONNET)]


def asked(rig: j.Rig, criteria: Criteria, targets: list[Target], answer: j.Reply) -> list[str]:
    """A request that is always answered so; the accounts that were asked."""
    return j.travel(rig.run(criteria, targets), [answer] * 9, rig.clock)[0]


@pytest.mark.parametrize("answer", DOUBTFUL)
def test_the_last_account_is_passed_over_when_a_second_request_is_refused(answer: j.Reply) -> None:
    rig, targets = j.Rig(), login("a")
    asked(rig, GUEST, targets, answer)
    assert not rig.pool.cooldowns.of("account", "a", ("", j.SONNET, "claude-sonnet"))
    assert rig.serve(OTHER, targets=targets) == ["a"]
    asked(rig, GUEST, targets, answer)
    assert not rig.pool.cooldowns, "a good answer lay between them"
    asked(rig, OTHER, targets, answer)
    assert rig.pool.cooldowns.of("account", "a", ("", j.SONNET, "claude-sonnet"))


@given(
    st.lists(st.tuples(st.sampled_from([GUEST, THIRD]), st.sampled_from(DOUBTFUL), st.floats(0, 200)), max_size=12),
    st.integers(1, 3),
)
def test_however_often_some_keys_are_refused_another_key_is_served(
    refused: list[tuple[Criteria, j.Reply, float]], accounts: int
) -> None:
    rig, targets = j.Rig(), login(*"abc"[:accounts])
    for criteria, answer, pause in refused:
        rig.clock.pass_by(pause)
        asked(rig, criteria, targets, answer)
    assert rig.serve(OTHER, targets=targets)[-1:] != []
    run = rig.run(OTHER, targets)
    assert isinstance(run.next(), SendAttempt)


def test_a_key_that_was_refused_itself_waits_like_for_any_cooldown() -> None:
    rig, targets = j.Rig(), login("a")
    assert [len(asked(rig, GUEST, targets, j.FORBIDDEN)) for _ in range(5)] == [1, 1, 0, 0, 0]
    assert [len(asked(rig, OTHER, targets, j.FORBIDDEN)) for _ in range(3)] == [1, 0, 0]
    assert [len(asked(rig, THIRD, targets, j.FORBIDDEN)) for _ in range(3)] == [1, 0, 0]


def test_a_request_of_a_key_that_may_ask_counts_as_the_probe_that_is_under_way() -> None:
    rig, targets = j.Rig(), login("a")
    for _ in range(2):
        asked(rig, GUEST, targets, NOT_ALLOWED)
    rig.clock.pass_by(61)
    other, third = rig.run(OTHER, targets), rig.run(THIRD, targets)
    assert [j.trying(one.next()).is_probe for one in (other, third)] == [True, True]
    for one in (other, third):
        j.refusal(rig.run(GUEST, targets).next())
        one.close()
    j.refusal(rig.run(GUEST, targets).next())  # nothing was found out, and it isn't asked again at once
    rig.clock.pass_by(61)
    assert j.trying(rig.run(GUEST, targets).next()).is_probe


@pytest.mark.parametrize("answer", [j.limited(9000), j.busy(300), j.BROKE, j.UNPAID])
def test_a_rejected_window_or_a_named_wait_cools_the_last_account_at_once(answer: j.Reply) -> None:
    rig, targets = j.Rig(), login("a")
    asked(rig, GUEST, targets, answer)
    assert j.refusal(rig.run(OTHER, targets).next()).cause == "exhausted"


def refuse_and_renew(rig: j.Rig, criteria: Criteria, targets: list[Target], *, is_dead: bool) -> None:
    run = rig.run(criteria, targets)
    run.next()
    j.reply(run, j.REFUSED)
    assert j.trying(run.next()).renew
    run.not_renewed("its refresh token was refused", is_dead=is_dead)
    j.giving(run.next())


def test_of_a_dead_login_no_client_key_has_to_find_out_again() -> None:
    rig, targets = j.Rig(), login("a")
    refuse_and_renew(rig, GUEST, targets, is_dead=True)
    for criteria in (GUEST, OTHER, THIRD):
        assert j.refusal(rig.run(criteria, targets).next()).cause == "no_usable_account"


def test_a_login_that_works_again_after_its_death_gets_the_benefit_of_the_doubt_again() -> None:
    rig, targets = j.Rig(), login("a")
    refuse_and_renew(rig, GUEST, targets, is_dead=True)
    [cooldown] = rig.pool.cooldowns.of("account", "a")
    rig.pool.cooldowns.clear(cooldown)
    refuse_and_renew(rig, GUEST, targets, is_dead=False)
    assert rig.serve(OTHER, targets=targets) == ["a"]


@pytest.mark.parametrize(("organization", "is_passed_over"), [("one", False), ("another", True)])
def test_an_organization_is_passed_over_at_once_only_where_another_can_serve(
    organization: str,
    is_passed_over: bool,  # noqa: FBT001
) -> None:
    rig = j.Rig()
    accounts = (PoolAccount("a", "one", organization="one"), PoolAccount("b", "one", organization=organization))
    run = rig.run(GUEST, [Target(AccountGroup("one", accounts), j.SONNET)])
    run.next()
    j.reply(run, BARE)
    assert bool(rig.pool.cooldowns.of("organization", "one", ("claude-sonnet",))) is is_passed_over


@pytest.mark.parametrize(("cause", "may_try"), [("refused", True), ("forbidden", True), ("window", False)])
def test_a_refusal_that_another_process_met_may_be_tried_once(cause: str, may_try: bool) -> None:  # noqa: FBT001
    rig = j.Rig(("a",))
    rig.pool.cooldowns.adopt([Cooldown(Scope("account", "a"), cause, "answer", None, noted_at=int(j.NOW))], {}, 0)
    assert isinstance(rig.run(OTHER).next(), SendAttempt) is may_try


def test_a_good_answer_forgets_the_refusals_of_its_account_and_family_alone() -> None:
    refusals = UnconfirmedRefusals()
    keys = [("account", name, family, "forbidden") for name in "ab" for family in ("", "claude-opus")]
    for key in keys:
        refusals.note(key, "guest")
    refusals.served("a", "", ("", "claude-sonnet"))
    assert list(refusals) == keys[1:]


def test_while_others_are_ready_an_account_is_passed_over_at_once() -> None:
    rig, targets = j.Rig(), login("a", "b")
    assert rig.serve(GUEST, j.FORBIDDEN, targets=targets) == ["a", "b"]
    assert rig.serve(GUEST, targets=targets) == ["b"]


def test_a_key_refused_by_all_gets_the_answer_unchanged_and_no_wait_of_ours() -> None:
    rig, targets = j.Rig(), login("a", "b")
    rig.serve(OTHER, j.limited(9000), targets=targets)
    tried, step = j.travel(rig.run(GUEST, targets), [j.FORBIDDEN], rig.clock)
    assert tried == ["b"]
    j.giving(step)


def test_a_probe_that_names_a_shorter_wait_than_what_holds_tells_the_longer_one() -> None:
    rig = j.Rig(("a",))
    j.travel(rig.run(), [j.limited(9000)], rig.clock)
    rig.clock.pass_by(61)
    tried, step = j.travel(rig.run(), [j.busy(5)], rig.clock)
    assert tried == ["a"]
    assert j.refusal(step).retry_after == pytest.approx(9000 - 61, abs=31)


@given(st.lists(st.sampled_from([j.busy(5), j.busy(300), j.limited(30), j.limited(9000)]), min_size=1, max_size=4))
def test_the_reported_wait_is_the_one_that_applies(answers: list[j.Reply]) -> None:
    """Of several cooldowns of one account the longest holds, and whoever waits so long is served."""
    rig = j.Rig(("a",))
    for answer in answers:
        j.travel(rig.run(), [answer], rig.clock)
    refuse = j.refusal(rig.run().next())
    assert refuse.retry_after is not None
    rig.clock.pass_by(refuse.retry_after)
    assert rig.serve() == ["a"]
