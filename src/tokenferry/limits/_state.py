import re
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

LONGEST_WINDOW: Final = 7 * 86_400
"""The longest window, in seconds."""
_LENGTH: Final = re.compile(r"([0-9]{1,3})([mhd])(?![a-z0-9])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_CLAIMED: Final = (("five_hour", "5h"), ("seven_day", "7d"))
_SHORTENED: Final = {"_overage_included": "_oi"}
_REJECTED: Final = "rejected"


# What a row of the database must hold, which anybody who writes there could have put there: the bounds of headers.
_Word: TypeAlias = Annotated[str, Meta(max_length=64, pattern=r"^[!-~]*$")]
_Moment: TypeAlias = Annotated[float, Meta(ge=0, le=4_102_444_800)]
_Amount: TypeAlias = Annotated[float, Meta(ge=0, le=1e15)]


class Window(Struct, frozen=True):
    """A period with its own allowance, as subscriptions have: `5h`, `7d`, `7d_sonnet`."""

    name: _Word
    status: _Word = ""
    """allowed, allowed_warning, rejected or another word; empty without a header."""
    reset: _Moment | None = None
    """Seconds since 1970 UTC. An upper bound: windows have ended earlier."""
    utilization: _Amount | None = None
    """A fraction, which may exceed 1."""
    surpassed_threshold: _Amount | None = None

    @property
    def length(self) -> int:
        """The length in seconds, by the name; the longest for an unknown name."""
        found = _LENGTH.match(self.name)
        return int(found[1]) * _SECONDS[found[2]] if found else LONGEST_WINDOW

    @property
    def is_of_family(self) -> bool:
        """Whether it limits only a model family."""
        return "_" in self.name or "-" in self.name


class Bucket(Struct, frozen=True):
    """An allowance that refills continuously, as API keys have: `requests`, `priority-input-tokens`."""

    name: _Word
    limit: _Amount | None = None
    remaining: _Amount | None = None
    reset: _Moment | None = None
    """When it is full again, in seconds since 1970 UTC; it is usable long before."""

    @property
    def is_of_day(self) -> bool:
        """Whether it is an allowance for a day."""
        return self.name.endswith("-day")


class LimitState(Struct, frozen=True):
    """The limits in one answer: windows of the account and the model's family, buckets of the organization's keys."""

    organization: str = ""
    retry_after: float | None = None
    """Seconds, counted from the answer."""
    status: str = ""
    """The whole subscription's: allowed, allowed_warning or rejected; empty without one."""
    reset: float | None = None
    """The reset of the representative window, in seconds since 1970 UTC."""
    representative_claim: str = ""
    fallback_percentage: float | None = None
    windows: tuple[Window, ...] = ()
    overage: Window | None = None
    """Use that is billed beyond the windows. A rejected overage alone limits nothing."""
    overage_disabled_reason: str = ""
    buckets: tuple[Bucket, ...] = ()

    @property
    def rejected(self) -> tuple[Window, ...]:
        """The used-up windows; without any, the representative window of a rejected subscription."""
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
        """Whether requests are now billed on top of the subscription."""
        allowed = self.overage is not None and self.overage.status.startswith("allowed")
        return allowed and self.representative_claim == "overage"


def claimed_window(claim: str) -> str | None:
    """Give the name of a claimed window: `7d_sonnet` for `seven_day_sonnet`; None for an unknown claim."""
    for words, name in _CLAIMED:
        if claim == words or claim.startswith(f"{words}_"):
            rest = claim.removeprefix(words)
            return name + _SHORTENED.get(rest, rest)
    return None
