import math
from random import Random
from typing import Final

from tokenferry.limits._verdict import Verdict

_FIRST_BACK_OFF: Final = 1.0
_LONGEST_BACK_OFF: Final = 60.0
_DOUBLINGS: Final = 6
_LONG: Final = 3600.0
_FUZZ: Final = (1.0, 30.0)
_FLOOR: Final = (1.0, 5.0)


def cooldown_until(verdict: Verdict, *, now: float, failures: int, rng: Random) -> int | None:
    """When what the verdict is about may be tried again, in seconds since 1970 UTC; None where no end is known.

    `failures` says how many of the same kind came just before. A verdict that benches nobody is over at once.
    """
    until = verdict.until
    match verdict.hold:
        case "indefinite" | "login":
            return None
        case "none":
            return math.floor(now)
        case "long":
            return math.ceil(now + _LONG)
        case "back-off":
            longest = _FIRST_BACK_OFF * 2 ** min(max(failures, 0), _DOUBLINGS)
            return math.ceil(now + rng.uniform(0, min(longest, _LONGEST_BACK_OFF)))
        case "window" | "retry-after":
            assert until is not None
            if until <= now:
                return math.ceil(now + rng.uniform(*_FLOOR))
            # A reset isn't exact, and all who wait for it shall not come at once.
            return math.ceil(until + (rng.uniform(*_FUZZ) if verdict.hold == "window" else 0.0))
