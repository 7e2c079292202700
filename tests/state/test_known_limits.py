"""What answers said of each account's limits, as every process knows it."""

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import LimitState, Window
from tokenferry.state import Database, KnownLimits, State
from tokenferry.state._known_limits import _state

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000
windows = st.builds(
    Window,
    st.sampled_from(("5h", "7d", "7d_opus")),
    st.sampled_from(("allowed", "rejected")),
    st.none() | st.floats(NOW, NOW + 1e6),
    st.none() | st.floats(0, 2),
)


def test_the_last_word_on_an_account_counts_until_it_is_old(path: "Path | Database") -> None:
    now = [NOW]
    with State(path, now=lambda: now[0]) as state:
        limits: KnownLimits = state.limits
        assert limits.all() == {}
        before, after = (LimitState(windows=(Window("5h", "allowed", NOW + 60.0, used),)) for used in (0.5, 0.52))
        limits.put("alice", before)
        assert limits.all() == {"alice": before}
        assert limits.all() is limits.all()
        limits.put("alice", after)
        now[0] += 100
        limits.put("bob", before)
        assert limits.all() == {"alice": after, "bob": before}
        limits.prune(NOW + 50)
        assert limits.all() == {"bob": before}


@given(st.lists(windows, max_size=4))
def test_every_state_is_read_as_it_was_written(found: list[Window]) -> None:
    state = LimitState("org", windows=tuple(found))
    assert _state(msgspec.json.encode(state).decode()) == state


def test_what_another_version_wrote_is_left_out() -> None:
    assert _state("[]") is None
    assert _state('{"windows":[{"name":"5h"}],"new":1}') == LimitState(windows=(Window("5h"),))


@pytest.mark.parametrize(
    "window",
    [
        {"name": "5h", "utilization": 1e308},
        {"name": "5h", "utilization": -1},
        {"name": "5h", "reset": 1e308},
        {"name": "5h\0"},
        {"name": "x" * 65},
        {"name": "5h", "status": "a\nb"},
    ],
)
def test_what_no_header_could_say_is_left_out(window: dict[str, object]) -> None:
    assert _state(msgspec.json.encode({"windows": [window]}).decode()) is None
