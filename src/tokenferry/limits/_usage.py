from typing import Any, Final

from tokenferry.limits._state import LimitState, Window, claimed_window
from tokenferry.limits._values import read_moment
from tokenferry.secret import parse_json

_PERCENT: Final = 100.0
_MOST: Final = 32
_LONGEST_BODY: Final = 64 * 1024


def read_usage(body: bytes) -> LimitState | None:
    """Read a usage endpoint's answer about a subscription's windows; None for any other document. It never raises.

    The answer maps windows, such as `five_hour`, to a utilization in percent and a reset in RFC 3339.
    """
    document = parse_json(body) if len(body) <= _LONGEST_BODY else None
    if not isinstance(document, dict):
        return None
    windows = []
    for words, entry in list(document.items())[:_MOST]:
        name = claimed_window(words) if isinstance(words, str) else None
        if name is not None and isinstance(entry, dict) and (window := _window(name, entry)) is not None:
            windows.append(window)
    return LimitState(windows=tuple(windows)) if windows else None


def _window(name: str, entry: dict[str, Any]) -> Window | None:
    used, reset = entry.get("utilization"), entry.get("resets_at")
    if isinstance(used, bool) or not isinstance(used, int | float) or not 0 <= used < float("inf"):
        return None
    moment = read_moment(reset) if isinstance(reset, str) else None
    return Window(name, "rejected" if used >= _PERCENT else "allowed", moment, used / _PERCENT)
