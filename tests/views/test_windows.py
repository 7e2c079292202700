"""The chart of an account's windows: a line over time that falls where a window ends."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from ledger.books import PRICES
from tokenferry.ledger import Ledger, UsageReport, WindowPoint
from tokenferry.views import window_lines

SINCE, UNTIL = 1_900_000_000.0, 1_900_604_800.0
HOUR = 3600.0

moments = st.floats(SINCE - 2 * 86_400, UNTIL)
points = st.lists(
    st.builds(
        lambda at, used, left: WindowPoint("work", "5h", at, used, at + left),
        moments,
        st.floats(0, 1.5),
        st.floats(1, 9 * HOUR),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("windows")


def lines(
    folder: Path, found: Sequence[WindowPoint], account: str = "work"
) -> dict[str, Sequence[tuple[float, float]]]:
    for path in folder.glob("ledger.db*"):
        path.unlink()
    with Ledger(folder / "ledger.db", now=lambda: UNTIL) as ledger:
        ledger.write([], PRICES, found)
        return {one.window: one.points for one in window_lines(UsageReport(ledger), "work", SINCE, UNTIL)}


@settings(max_examples=effort(40), deadline=None)
@given(points)
def test_a_line_goes_forward_in_time_within_the_chart(folder: Path, found: list[WindowPoint]) -> None:
    for line in lines(folder, found).values():
        assert [x for x, _ in line] == sorted(x for x, _ in line)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in line)
        assert line[-1][0] == 1.0, "it ends now"


def test_a_window_falls_to_nothing_at_its_end_and_others_accounts_are_not_shown(folder: Path) -> None:
    middle = (SINCE + UNTIL) / 2
    point = WindowPoint("work", "5h", middle, 0.8, middle + 5 * HOUR)
    found = lines(folder, [point, WindowPoint("other", "7d", middle, 0.5, UNTIL)])
    assert [*found] == ["5h"]
    end = round(0.5 + 5 / 168, 4)
    assert found["5h"] == ((0.5, 0.2), (end, 0.2), (end, 1.0), (1.0, 1.0))
