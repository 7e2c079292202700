from collections.abc import Mapping
from typing import Final

from tokenferry.ledger._entry import WindowPoint
from tokenferry.limits import LimitState, Window

_STEP: Final = 0.01 - 1e-9
_ROLL_OVER: Final = 60.0  # the reset of one window varies by seconds


class WindowHistory:
    """Selects the points of limit windows to store: moves by 1 %, resets, and changes of status."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], Window] = {}

    def changes(self, states: Mapping[str, LimitState], now: float) -> list[WindowPoint]:
        """Give the points to store for the present limits of each account. `now` is in seconds since 1970 UTC."""
        points = []
        for account, state in states.items():
            for window in state.windows:
                if window.utilization is not None and self._has_moved(account, window):
                    self._last[account, window.name] = window
                    reset = window.reset or 0.0
                    points.append(WindowPoint(account, window.name, now, window.utilization, reset, window.status))
        return points

    def _has_moved(self, account: str, window: Window) -> bool:
        last = self._last.get((account, window.name))
        if last is None or last.status != window.status:
            return True
        moved = abs((window.utilization or 0.0) - (last.utilization or 0.0))
        return moved >= _STEP or abs((window.reset or 0.0) - (last.reset or 0.0)) >= _ROLL_OVER
