"""Whether anybody keeps is asked without getting in anybody's way."""

import os

import pytest

from tokenferry.background_refresh import renewer_of
from tokenferry.background_refresh._alive import mark_round, renewer_lock
from tokenferry.settings import Home


def test_asking_makes_nothing_and_leaves_the_lock_as_it_is(home: Home) -> None:
    assert renewer_of(home) is None
    assert list(home.path.iterdir()) == []
    with renewer_lock(home).held(1):
        before = renewer_lock(home).path.stat()
        assert renewer_of(home) == f"process {os.getpid()} ({renewer_lock(home).holder().partition('(')[2]}"
        assert renewer_lock(home).path.stat() == before
        assert not renewer_lock(home).try_acquire()
    assert renewer_of(home) is None


@pytest.mark.parametrize(("age", "keeps"), [(0, True), (600, True), (700, False), (-700, False)])
def test_a_round_of_a_timetable_counts_until_the_next_one_is_overdue(home: Home, age: float, keeps: bool) -> None:  # noqa: FBT001  # a parameter of the case
    mark_round(home)
    now = home.renewer.stat().st_mtime + age
    assert (renewer_of(home, now) is not None) == keeps
