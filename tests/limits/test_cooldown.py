import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import Classification, CooldownRule, cooldown_until

NOW = 1_800_000_000.0
seeds = st.integers(0, 2**32).map(Random)


def held(hold: CooldownRule, until: float | None = None) -> Classification:
    return Classification("account", "all", "test", "fail-over", hold, until, "It is a test.")


def end(verdict: Classification, rng: Random, failures: int = 0) -> Any:
    return cooldown_until(verdict, now=NOW, failures=failures, rng=rng)


@given(st.integers(1, 604_800), seeds)
def test_a_window_ends_some_seconds_past_its_reset(after: int, rng: Random) -> None:
    assert NOW + after + 1 <= end(held("window", NOW + after), rng) <= NOW + after + 30


@given(st.floats(0.01, 1e6), seeds)
def test_an_announced_wait_is_obeyed(after: float, rng: Random) -> None:
    assert end(held("retry-after", NOW + after), rng) == math.ceil(NOW + after)


@pytest.mark.parametrize("hold", ["window", "retry-after"])
@given(before=st.floats(0, 1e6), rng=seeds)
def test_an_end_that_has_passed_still_gives_some_seconds(hold: CooldownRule, before: float, rng: Random) -> None:
    assert NOW + 1 <= end(held(hold, NOW - before), rng) <= NOW + 5


@given(st.integers(-5, 10**6), seeds)
def test_backing_off_doubles_up_to_a_minute(failures: int, rng: Random) -> None:
    assert NOW <= end(held("back-off"), rng, failures) <= NOW + min(60, 2 ** min(max(failures, 0), 6))


def test_backing_off_has_full_jitter() -> None:
    rng = Random(5)
    ends = [end(held("back-off"), rng, 9) - NOW for _ in range(500)]
    assert (min(ends), max(ends)) == (1, 60)


def test_the_rest_has_an_end_that_is_fixed_or_none() -> None:
    rng = Random(5)
    assert end(held("hour"), rng) == NOW + 3600
    assert [end(held("long"), rng, failures) for failures in range(9)] == [
        NOW + seconds for seconds in (60, 120, 240, 480, 960, 1920, 3600, 3600, 3600)
    ]
    assert end(held("indefinite"), rng) is None
    assert end(held("login"), rng) is None
    assert end(held("none"), rng) == end(held("later"), rng) == NOW, "over at once"
