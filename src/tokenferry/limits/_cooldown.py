import math
from random import Random
from typing import Final

from tokenferry.limits._classification import Classification

_FIRST_BACK_OFF: Final = 1.0
_LONGEST_BACK_OFF: Final = 60.0
_DOUBLINGS: Final = 6
_FIRST_LONG: Final = 60.0
_HOUR: Final = 3600.0
_FUZZ: Final = (1.0, 30.0)
_FLOOR: Final = (1.0, 5.0)


def cooldown_until(error: Classification, *, now: float, failures: int, rng: Random) -> int | None:
    """Give the end of the cooldown in seconds since 1970 UTC; None if it is unknown.

    `failures` is the number of failures of the same kind right before. Without a cooldown the end is now.
    """
    until, doubled = error.until, 2.0 ** min(max(failures, 0), _DOUBLINGS)
    match error.hold:
        case "indefinite" | "login":
            return None
        case "none" | "later":
            return math.floor(now)
        case "long" | "hour":
            return math.ceil(now + (_HOUR if error.hold == "hour" else min(_FIRST_LONG * doubled, _HOUR)))
        case "back-off":
            return math.ceil(now + rng.uniform(0, min(_FIRST_BACK_OFF * doubled, _LONGEST_BACK_OFF)))
        case "window" | "retry-after" | "date":
            assert until is not None
            if until <= now:
                return math.ceil(now + rng.uniform(*_FLOOR))
            # A reset is not exact, and the requests that wait for it must not arrive at once.
            return math.ceil(until + (rng.uniform(*_FUZZ) if error.hold == "window" else 0.0))
