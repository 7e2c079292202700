import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenferry.anthropic_beta import OAUTH_BETA, merge_beta


@pytest.mark.parametrize(
    ("existing", "ours", "merged"),
    [
        ([], [], ""),
        ([], [OAUTH_BETA], OAUTH_BETA),
        (["a,b"], [OAUTH_BETA], f"a,b,{OAUTH_BETA}"),
        ([f"b , {OAUTH_BETA},, a"], [OAUTH_BETA], f"b,{OAUTH_BETA},a"),
        (["", " , "], [], ""),
        (["a", "b,a"], ["a,c"], "a,b,c"),
    ],
)
def test_betas_are_merged_existing_ones_first(existing: list[str], ours: list[str], merged: str) -> None:
    assert merge_beta(existing, ours) == merged


@settings(deadline=None)
@given(st.lists(st.text("ab, ")), st.lists(st.text("ab, ")))
def test_merged_betas_are_each_there_once_and_none_is_lost(existing: list[str], ours: list[str]) -> None:
    merged = merge_beta(existing, ours)
    names = merged.split(",") if merged else []
    wanted = {name.strip() for value in (*existing, *ours) for name in value.split(",")} - {""}
    assert len(names) == len(set(names))
    assert set(names) == wanted
    assert merge_beta([merged], ours) == merged
