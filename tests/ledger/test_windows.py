from tokenferry.ledger import WindowHistory
from tokenferry.limits import LimitState, Window


def test_a_point_is_stored_when_a_window_moves_by_a_percent_or_begins_again() -> None:
    history = WindowHistory()

    def change(used: float, reset: float = 1000.0, status: str = "allowed") -> list[float]:
        state = LimitState(windows=(Window("5h", status, reset, used), Window("7d")))
        return [point.used for point in history.changes({"alice": state}, 1.0)]

    assert change(0.1) == [0.1]
    assert change(0.1) == []
    assert change(0.105) == []
    assert change(0.11) == [0.11]
    assert change(0.11, 1030.0) == []
    assert change(0.11, 1100.0) == [0.11]
    assert change(0.11, 1100.0, "rejected") == [0.11]
    assert change(0.0, 1100.0, "rejected") == [0.0]
