from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from tokenferry.prices import TokenCounts

Billing: TypeAlias = Literal["metered", "plan", "overage"]
"""Whether a request is paid for by itself, covered by a subscription, or paid for on top of one."""


class OtherModel(NamedTuple):
    """What of a request another model has served, like an advisor. It is among the counts of the request."""

    model: str
    counts: TokenCounts


@dataclass(slots=True)
class LedgerEntry:
    """One request as it is written down. Nothing in it is secret; bodies are never kept.

    Times are seconds, `at` since 1970 UTC; sizes are bytes. Counts are None where the upstream said nothing.
    """

    request_id: str
    at: float
    key_id: str = ""
    key_name: str = ""
    account: str = ""
    provider: str = ""
    model: str = ""
    """What the upstream served, or was asked for."""
    asked: str = ""
    """What the client asked for."""
    session: str = ""
    agent: str = ""
    parent_agent: str = ""
    is_side: bool = False
    """Whether it is no message: a count of tokens, for example."""
    status: int = 0
    error: str = ""
    attempts: int = 0
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    thinking: int | None = None
    web_searches: int | None = None
    speed: str = ""
    service_tier: str = ""
    inference_geo: str = ""
    is_estimated: bool = False
    others: tuple[OtherModel, ...] = ()
    billing: Billing = "metered"
    first_byte: float | None = None
    duration: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def counts(self) -> TokenCounts:
        """All that is billed; unknown counts as nothing."""
        return TokenCounts(
            self.input or 0,
            self.output or 0,
            self.cache_read or 0,
            self.cache_write_5m or 0,
            self.cache_write_1h or 0,
            self.web_searches or 0,
        )


@dataclass(frozen=True, slots=True)
class WindowPoint:
    """How much of an account's window was used at a time. Times are seconds since 1970 UTC."""

    account: str
    window: str
    at: float
    used: float
    """A share; it may exceed 1."""
    reset: float
    status: str = field(default="")
