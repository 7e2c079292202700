from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from tokenferry.prices import TokenCounts

Billing: TypeAlias = Literal["metered", "plan", "overage", "own", "unpriced"]
"""How a request is paid for: by itself, by a subscription, on top of one, by a credential of the client's own, or at a
price that isn't known."""


class OtherModel(NamedTuple):
    """What of a request another model has served, like an advisor. It is among the counts of the request."""

    model: str
    counts: TokenCounts


class LedgerEntry(NamedTuple):
    """One request as it is written down. Nothing in it is secret; bodies are never kept.

    Times are seconds, `at` since 1970 UTC; sizes are bytes. Counts are None where the upstream said nothing. The fields
    stand in the order in which they are written: names first, then what is written as it is.
    """

    key_id: str = ""
    key_name: str = ""
    account: str = ""
    provider: str = ""
    asked: str = ""
    """What the client asked for."""
    session: str = ""
    agent: str = ""
    parent_agent: str = ""
    error: str = ""
    speed: str = ""
    service_tier: str = ""
    inference_geo: str = ""
    request_id: str = ""
    is_side: bool = False
    """Whether it is no message: a count of tokens, for example."""
    status: int = 0
    attempts: int = 0
    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    thinking: int | None = None
    web_searches: int | None = None
    is_estimated: bool = False
    billing: Billing = "metered"
    bytes_in: int = 0
    bytes_out: int = 0
    at: float = 0.0
    model: str = ""
    """What the upstream served, or was asked for."""
    others: tuple[OtherModel, ...] = ()
    first_byte: float | None = None
    duration: float = 0.0

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


NAMES: Final = slice(0, 12)
"""Of a `LedgerEntry`: what is written as the number of a name."""
AS_THEY_ARE: Final = slice(12, 27)
"""Of a `LedgerEntry`: what is written as it is."""


class WindowPoint(Struct, frozen=True):
    """How much of an account's window was used at a time. Times are seconds since 1970 UTC."""

    account: str
    window: str
    at: float
    used: float
    """A share; it may exceed 1."""
    reset: float
    status: str = ""
