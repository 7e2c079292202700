from hypothesis import given
from hypothesis import strategies as st

from tokenferry import select_next_account_for_swap

NAMES = st.lists(st.sampled_from("abcdef"), unique=True)
LIMITS = st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(0, 20) | st.floats(0, 20))


def test_unlimited_accounts_come_first_then_those_whose_limit_has_ended() -> None:
    limited = {"a": 50.0, "b": None, "d": 150.5}
    assert select_next_account_for_swap("abcd", limited, now=100) == "c"
    assert select_next_account_for_swap("abd", limited, now=100) == "a"
    assert select_next_account_for_swap("abd", limited, now=100, current="a") is None
    assert select_next_account_for_swap("abd", limited, now=151, current="a") == "d"


@given(NAMES, LIMITS, st.integers(0, 20), st.sampled_from("abcdef"))
def test_it_is_the_first_in_order_of_the_best_kind(
    names: list[str], limits: dict[str, float | None], now: int, current: str
) -> None:
    chosen = select_next_account_for_swap(names, limits, now=now, current=current)
    others = [name for name in names if name != current]
    free = [name for name in others if name not in limits]
    ended = [name for name in others if (end := limits.get(name)) is not None and end <= now]
    assert chosen == next(iter(free or ended), None)
