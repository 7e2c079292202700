"""Whether anybody keeps is asked without getting in anybody's way."""

import os

import pytest

from tokenferry.keep import keeper_of
from tokenferry.keep._alive import keeper_lock, mark_round
from tokenferry.settings import Home


def test_asking_makes_nothing_and_leaves_the_lock_as_it_is(home: Home) -> None:
    assert keeper_of(home) is None
    assert list(home.path.iterdir()) == []
    with keeper_lock(home).held(1):
        before = keeper_lock(home).path.stat()
        assert keeper_of(home) == f"process {os.getpid()} ({keeper_lock(home).holder().partition('(')[2]}"
        assert keeper_lock(home).path.stat() == before
        assert not keeper_lock(home).try_acquire()
    assert keeper_of(home) is None


@pytest.mark.parametrize(("age", "keeps"), [(0, True), (600, True), (700, False), (-700, False)])
def test_a_round_of_a_timetable_counts_until_the_next_one_is_overdue(home: Home, age: float, keeps: bool) -> None:  # noqa: FBT001  # a parameter of the case
    mark_round(home)
    now = home.keeper.stat().st_mtime + age
    assert (keeper_of(home, now) is not None) == keeps
