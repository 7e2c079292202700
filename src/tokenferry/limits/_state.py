import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

LONGEST_WINDOW: Final = 7 * 86_400
"""The longest that there is, in seconds."""
_LENGTH: Final = re.compile(r"([0-9]{1,3})([mhd])(?![a-z0-9])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_CLAIMED: Final = (("five_hour", "5h"), ("seven_day", "7d"))
_SHORTENED: Final = {"_overage_included": "_oi"}
_REJECTED: Final = "rejected"


class Window(Struct, frozen=True):
    """A stretch of time with an allowance of its own, as a subscription has them: `5h`, `7d`, `7d_sonnet`."""

    name: str
    status: str = ""
    """allowed, allowed_warning or rejected; others may come. Empty where no header says it."""
    reset: float | None = None
    """Seconds since 1970 UTC. An upper bound: it has been seen to end earlier."""
    utilization: float | None = None
    """A fraction, which can exceed 1."""
    surpassed_threshold: float | None = None

    @property
    def length(self) -> int:
        """How long it lasts in seconds, by its name; of an unknown name, as long as any."""
        found = _LENGTH.match(self.name)
        return int(found[1]) * _SECONDS[found[2]] if found else LONGEST_WINDOW

    @property
    def is_of_family(self) -> bool:
        """Whether it limits a model family alone."""
        return "_" in self.name or "-" in self.name


class Bucket(Struct, frozen=True):
    """An allowance that refills all the time, as API keys have them: `requests`, `priority-input-tokens`."""

    name: str
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    """When it is full again, in seconds since 1970 UTC; usable it is long before."""

    @property
    def is_of_day(self) -> bool:
        """Whether it is an allowance for a day."""
        return self.name.endswith("-day")


class LimitState(Struct, frozen=True):
    """What one answer says about the limits of an account, a model family and an organization.

    It holds for the account that was used and the family of the model that was asked for; buckets hold for all keys
    of the organization.
    """

    organization: str = ""
    retry_after: float | None = None
    """Seconds, from when the answer came."""
    status: str = ""
    """Of the subscription as a whole: allowed, allowed_warning or rejected; empty where there is none."""
    reset: float | None = None
    """Of the window that stands for the whole, in seconds since 1970 UTC."""
    representative_claim: str = ""
    fallback_percentage: float | None = None
    windows: tuple[Window, ...] = ()
    overage: Window | None = None
    """What is paid for beyond the windows. Its being rejected limits nothing by itself."""
    overage_disabled_reason: str = ""
    buckets: tuple[Bucket, ...] = ()

    @property
    def rejected(self) -> tuple[Window, ...]:
        """The windows that are used up; if none says so, the one that is claimed for a rejection of the whole."""
        named = tuple(window for window in self.windows if window.status == _REJECTED)
        if named or self.status != _REJECTED:
            return named
        name = claimed_window(self.representative_claim)
        if name is None:
            return ()
        window = next((one for one in self.windows if one.name == name), Window(name))
        if window.status:
            return ()
        return (replace(window, status=_REJECTED, reset=self.reset if window.reset is None else window.reset),)

    @property
    def bills_overage(self) -> bool:
        """Whether requests are now paid for on top of the subscription."""
        allowed = self.overage is not None and self.overage.status.startswith("allowed")
        return allowed and self.representative_claim == "overage"


def claimed_window(claim: str) -> str | None:
    """The window that a claim means: `7d_sonnet` by `seven_day_sonnet`."""
    for words, name in _CLAIMED:
        if claim == words or claim.startswith(f"{words}_"):
            rest = claim.removeprefix(words)
            return name + _SHORTENED.get(rest, rest)
    return None
