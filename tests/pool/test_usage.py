"""What is remembered of windows, whatever they are called."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from pool import runs as j
from tokenferry.limits import Bucket, LimitState, Window
from tokenferry.pool._usage import _MOST_WARNED, LimitUsage

END = 1_800_000_000.0


def state(*names: str, end: float = END) -> LimitState:
    return LimitState(windows=tuple(Window(name, reset=end, utilization=0.9) for name in names))


def remembered(usage: LimitUsage, account: str = "a") -> list[str]:
    return list(usage._warned.get(account, ()))


@settings(max_examples=effort(30))
@given(st.lists(st.sets(st.integers(0, 500).map(str), max_size=32), min_size=1, max_size=8))
def test_of_an_account_so_many_warnings_at_most_are_remembered_the_last_ones(told: list[set[str]]) -> None:
    usage = LimitUsage()
    for names in told:
        before = set(remembered(usage))
        usage.note("a", state(*names), 0.8)
        assert len(remembered(usage)) <= _MOST_WARNED
        assert names - before <= set(remembered(usage))


def test_an_account_with_many_windows_has_none_of_another_warned_of_again(caplog: pytest.LogCaptureFixture) -> None:
    usage = LimitUsage()
    usage.note("b", state("5h"), 0.8)
    for number in range(200):
        usage.note("a", state(f"w{number}"), 0.8)
    assert len(remembered(usage)) == _MOST_WARNED
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        usage.note("b", state("5h"), 0.8)
        assert not caplog.records
        usage.note("b", state("5h", end=END + 18_000), 0.8)
        assert len(caplog.records) == 1


def test_a_window_with_a_new_warning_is_remembered_longer_than_earlier_ones() -> None:
    usage = LimitUsage()
    usage.note("a", state("5h", "7d"), 0.8)
    usage.note("a", state("5h", end=END + 18_000), 0.8)
    for number in range(_MOST_WARNED - 1):
        usage.note("a", state(f"w{number}"), 0.8)
    assert "5h" in remembered(usage)
    assert "7d" not in remembered(usage)


def test_each_new_state_changes_the_version() -> None:
    usage = LimitUsage()
    versions = [usage.version]
    usage.note("a", state("5h"), 0)
    versions.append(usage.version)
    usage.adopt("a", state("5h"))
    versions.append(usage.version)
    assert len(set(versions)) == 3


@pytest.mark.parametrize(("limit", "remaining", "used"), [(100, 25, 0.75), (0, 0, 0), (100, None, 0), (None, 5, 0)])
def test_a_bucket_that_tells_nothing_counts_as_unused(limit: int | None, remaining: int | None, used: float) -> None:
    usage = LimitUsage()
    usage.adopt("a", LimitState(buckets=(Bucket("tokens", limit=limit, remaining=remaining),)))
    assert usage.utilization("a", "", END) == used


def test_the_limits_in_an_accounts_good_answers_are_read_once_a_second() -> None:
    rig = j.rig_of("priority")
    seen = []
    for utilization in (0.1, 0.3, 0.5):
        rig.serve(j.ANY, j.usage_reply(utilization))
        seen.append(rig.pool.usage.states()["a"].windows[0].utilization)
        rig.clock.pass_by(0.5)
    assert seen == [0.1, 0.1, 0.5]


def test_a_threshold_is_warned_about_once_and_again_after_a_roll_over(caplog: pytest.LogCaptureFixture) -> None:
    rig = j.rig_of("priority", quota_warning=0.8)

    def warnings() -> int:
        return caplog.text.count("of its window 5h")

    j.serve(rig, "a", j.usage_reply(0.5))
    assert warnings() == 0
    j.serve(rig, "a", j.usage_reply(0.85))
    assert "account a has used up 85 % of its window 5h" in caplog.text
    for jitter in (1, -2, 2, 0):
        j.serve(rig, "a", j.usage_reply(0.9, reset=9000 + jitter))
    assert warnings() == 1
    j.serve(rig, "b", j.usage_reply(0.9))
    assert warnings() == 2
    j.serve(rig, "a", j.usage_reply(0.9, reset=9000 + 18_000))
    assert warnings() == 3


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
    allowed, avoided, refused = (j.rig_of("priority", "ab", overage=one) for one in ("allow", "avoid", "refuse"))
    for rig in (allowed, avoided, refused):
        j.serve(rig, "a", billed(rig))
        assert caplog.text.count("account a: its use is now billed beyond its subscription") == 1
        j.serve(rig, "a", billed(rig)) if rig is not refused else None
        assert caplog.text.count("account a: its use is now billed beyond its subscription") == 1
        caplog.clear()
    assert allowed.serve() == ["a"]
    assert not allowed.pool.cooldowns.changes, "who isn't passed over is not listed as such"
    assert avoided.serve() == ["b"]
    assert refused.serve() == ["b"]
    for rig in (avoided, refused):
        j.serve(rig, "b", j.limited(90_000, window="7d", now=rig.clock.wall))
    assert avoided.serve() == ["a"]
    assert "a: its use is now billed beyond its subscription" in j.refusal(refused.run().next()).message
    for rig in (avoided, refused):
        rig.clock.pass_by(5000)
        rig.serve()  # finds out whether the other one must still be passed over
        assert rig.serve() == ["a"]
