import logging
import math
from collections.abc import Iterator
from typing import Final

from tokenferry.limits import Bucket, LimitState, Window

logger = logging.getLogger(__name__)

_ROLL_OVER: Final = 60.0  # the reset of one window varies by seconds
_STEP: Final = 0.02 - 1e-9
_MOST_WARNED: Final = 64  # per account; providers may name any window


class LimitUsage:
    """The latest limits of each account, and the warnings logged. Times are in seconds since 1970 UTC."""

    def __init__(self) -> None:
        self._states: dict[str, LimitState] = {}
        self._warned: dict[str, dict[str, float]] = {}
        """The end of each window that was warned of, by account; the latest warning last."""
        self._noted = self._adopted = 0  # one thread raises each

    @property
    def version(self) -> int:
        """A number that changes with every new state."""
        return self._noted + self._adopted

    def adopt(self, account: str, state: LimitState) -> None:
        """Add what another process observed; from one thread, which needn't be that of `note`."""
        self._states[account] = state
        self._adopted += 1

    def note(self, account: str, state: LimitState, threshold: float) -> None:
        if not state.windows and not state.buckets:
            return
        self._states[account] = state
        self._noted += 1
        if threshold:
            self._warn(account, state, threshold)

    def state(self, account: str) -> LimitState | None:
        return self._states.get(account)

    def states(self) -> dict[str, LimitState]:
        """Give the latest limits by account. Any thread may call it."""
        return dict(self._states)

    def utilization(self, account: str, family: str, now: float) -> float:
        """Give the used share of the account's tightest limit; 0 if unknown."""
        state = self._states.get(account)
        if state is None:
            return 0.0
        windows = (window.utilization or 0.0 for window in _of_family(state, family) if not _is_past(window, now))
        return max(max(windows, default=0.0), max(map(_used, state.buckets), default=0.0))

    def reset(self, account: str, family: str, now: float) -> tuple[float, float]:
        """Give the reset of the account's longest window, and the earliest reset; infinity if unknown."""
        state = self._states.get(account)
        if state is None:
            return math.inf, math.inf
        ends = [(window.length, window.reset) for window in _of_family(state, family) if not _is_past(window, now)]
        known = [(length, end) for length, end in ends if end is not None]
        if not known:
            return math.inf, math.inf
        longest = max(length for length, _ in known)
        return min(end for length, end in known if length == longest), min(end for _, end in known)

    def _warn(self, account: str, state: LimitState, threshold: float) -> None:
        warned = self._warned.setdefault(account, {})
        for window in state.windows:
            if window.utilization is None or window.utilization < threshold:
                continue
            end = window.reset or 0.0
            before = warned.get(window.name)
            # Compared with the first end, so that a slow drift does not count as a new window.
            if before is not None and abs(end - before) < _ROLL_OVER:
                continue
            warned.pop(window.name, None)
            if len(warned) >= _MOST_WARNED:
                del warned[next(iter(warned))]
            warned[window.name] = end
            logger.warning(
                "account %s has used up %.0f %% of its window %s", account, window.utilization * 100, window.name
            )


def has_moved(known: LimitState | None, state: LimitState) -> bool:
    """Whether a window has news: its use moved by at least 2 %, or its end or status changed."""
    before = {} if known is None else {window.name: window for window in known.windows}
    return any(_is_news(before.get(window.name), window) for window in state.windows)


def _is_news(known: Window | None, window: Window) -> bool:
    if known is None or known.status != window.status:
        return True
    moved = abs((window.utilization or 0.0) - (known.utilization or 0.0))
    return moved >= _STEP or abs((window.reset or 0.0) - (known.reset or 0.0)) >= _ROLL_OVER


def _of_family(state: LimitState, family: str) -> Iterator[Window]:
    for window in state.windows:
        if not window.is_of_family or window.name.replace("-", "_").partition("_")[2] in family.split("-"):
            yield window


def _is_past(window: Window, now: float) -> bool:
    return window.reset is not None and window.reset <= now


def _used(bucket: Bucket) -> float:
    return 0.0 if not bucket.limit or bucket.remaining is None else 1.0 - min(bucket.remaining / bucket.limit, 1.0)
