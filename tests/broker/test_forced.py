from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.broker import ForcedRenewals
from tokenferry.broker._forced import Forced
from tokenferry.errors import CredentialRefused

HOUR = 3600.0


@given(st.lists(st.floats(0, 1000), max_size=60), st.integers(1, 6))
def test_in_no_hour_are_there_more_than_the_cap(pauses: list[float], most: int) -> None:
    now = [1_800_000_000.0]
    forced = Forced(lambda: now[0], most=most)
    granted: list[float] = []
    for pause in pauses:
        now[0] += pause
        try:
            forced.check("work")
        except CredentialRefused:
            recent = [at for at in granted if now[0] - at < HOUR]
            assert len(recent) == most, "it is capped without need"
        else:
            forced.note("work")
            granted.append(now[0])
    assert all(later - first >= HOUR for first, later in zip(granted, granted[most:], strict=False))
    assert all(first <= later for first, later in pairwise(granted))
    assert forced.statistics("work") == ForcedRenewals(len(granted), len(pauses) - len(granted))


def test_each_account_has_a_cap_of_its_own_and_the_message_says_when_it_ends() -> None:
    now = [1_800_000_000.0]
    forced = Forced(lambda: now[0], most=1)
    forced.note("work")
    forced.check("spare")
    now[0] += 600
    with pytest.raises(CredentialRefused, match="renewed again in 51 min at the earliest"):
        forced.check("work")


def test_a_clock_that_was_set_back_makes_no_one_wait() -> None:
    now = [1_800_000_000.0]
    forced = Forced(lambda: now[0], most=1)
    forced.note("work")
    now[0] -= 86_400
    forced.check("work")
