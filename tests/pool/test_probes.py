"""Recovery probes: a request tries an account in cooldown, and its answer decides."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool import runs as j
from tokenferry.pool import (
    CooldownCleared,
    Criteria,
    SendAttempt,
    Target,
)
from tokenferry.settings import Caps, PoolSettings


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
