"""What is remembered of windows, whatever they are called."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
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
