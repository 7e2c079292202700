"""The one limiter of both sides: whatever is asked when, no more passes than its rate and burst say."""

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.rates import GcraBucket, Permit, RateLimiter, Share
from tokenferry.settings import Caps

costs = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 500)), min_size=1, max_size=40)


@settings(max_examples=effort(200))
@given(costs, st.floats(0.5, 50), st.integers(500, 2000))
def test_no_stretch_of_time_has_more_than_the_rate_and_one_burst(
    asked: list[tuple[float, int]], per_second: float, burst: int
) -> None:
    bucket, at, passed = GcraBucket(per_second, burst), 1000.0, list[tuple[float, int]]()
    for pause, units in asked:
        at += pause
        if not bucket.delay(at, units):
            bucket.charge(at, units)
            passed.append((at, units))
    for first, (start, _) in enumerate(passed):
        for (end, _), units in zip(passed[first:], accumulate(units for _, units in passed[first:]), strict=True):
            assert units <= burst + per_second * (end - start) + 1e-3


@settings(max_examples=effort(200))
@given(costs, st.floats(0.5, 50))
def test_a_delay_is_exact(asked: list[tuple[float, int]], per_second: float) -> None:
    """After it the same passes, and shortly before it doesn't."""
    bucket, at = GcraBucket(per_second, 500), 1000.0
    for pause, units in asked:
        at += pause
        delay = bucket.delay(at, units)
        if delay:
            assert bucket.delay(at + delay * 0.99, units) or delay < 1e-3
        at += delay
        assert not bucket.delay(at, units)
        bucket.charge(at, units)


@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 100))
def test_the_parts_of_all_workers_make_up_a_whole_number(number: int, workers: int, most: int) -> None:
    parts = [Share(one, workers).of(most) for one in range(workers)]
    assert sum(parts) == max(most, workers)
    assert max(parts) - min(parts) <= 1
    assert Share(number % workers, workers).of(most) >= 1


def test_another_rate_owes_the_same_units() -> None:
    limiter = RateLimiter("here", Caps(tokens_per_minute=60))
    limiter.charge(1000.0, 0, 120)
    assert limiter.delay(1000.0, 60) == pytest.approx(120)
    limiter.configure(Caps(tokens_per_minute=6000), Share(), 1000.0)
    assert limiter.delay(1000.0, 6000) == pytest.approx(1.2)
    limiter.configure(Caps(), Share(), 1000.0)
    assert limiter.delay(1000.0, 6000) == 0.0


@settings(max_examples=effort(100))
@given(st.lists(st.tuples(st.integers(0, 900), st.one_of(st.none(), st.integers(0, 900))), max_size=10))
def test_settled_once_a_permit_leaves_what_was_used(requests: list[tuple[int, int | None]]) -> None:
    limiter, at = RateLimiter("here", Caps(tokens_per_minute=6000, max_concurrency=3)), 1000.0
    permits = [(Permit((limiter,), at, expected), used) for expected, used in requests]
    assert limiter.busy == len(requests)
    for permit, used in permits:
        assert permit.settle(at, used)
        assert not permit.settle(at, used)
    assert limiter.busy == 0
    owed = sum(expected if used is None else used for expected, used in requests)
    assert limiter.delay(at, 6000) == pytest.approx(owed / 100)
