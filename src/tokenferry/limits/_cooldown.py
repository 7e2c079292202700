import math
from random import Random
from typing import Final

from tokenferry.limits._verdict import Classification

_FIRST_BACK_OFF: Final = 1.0
_LONGEST_BACK_OFF: Final = 60.0
_DOUBLINGS: Final = 6
_FIRST_LONG: Final = 60.0
_HOUR: Final = 3600.0
_FUZZ: Final = (1.0, 30.0)
_FLOOR: Final = (1.0, 5.0)


def cooldown_until(verdict: Classification, *, now: float, failures: int, rng: Random) -> int | None:
    """When what the verdict is about may be tried again, in seconds since 1970 UTC; None where no end is known.

    `failures` says how many of the same kind came just before. One that cools nothing down is over at once.
    """
    until, doubled = verdict.until, 2.0 ** min(max(failures, 0), _DOUBLINGS)
    match verdict.hold:
        case "indefinite" | "login":
            return None
        case "none" | "later":
            return math.floor(now)
        case "long" | "hour":
            return math.ceil(now + (_HOUR if verdict.hold == "hour" else min(_FIRST_LONG * doubled, _HOUR)))
        case "back-off":
            return math.ceil(now + rng.uniform(0, min(_FIRST_BACK_OFF * doubled, _LONGEST_BACK_OFF)))
        case "window" | "retry-after" | "date":
            assert until is not None
            if until <= now:
                return math.ceil(now + rng.uniform(*_FLOOR))
            # A reset isn't exact, and all who wait for it shall not come at once.
            return math.ceil(until + (rng.uniform(*_FUZZ) if verdict.hold == "window" else 0.0))
