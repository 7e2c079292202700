from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from tokenferry.prices import TokenCounts

Billing: TypeAlias = Literal["metered", "plan", "overage", "own", "unpriced"]
"""How a request is paid: by use, by a subscription, on top of one, by the client's own credential, or at an unknown
price."""


class OtherModel(NamedTuple):
    """The part of a request that another model served, such as an advisor. The request's counts include it."""

    model: str
    counts: TokenCounts


class LedgerEntry(NamedTuple):
    """One request in the ledger. It holds no secret and no body.

    Times are in seconds, `at` since 1970 UTC; sizes are in bytes. Unknown counts are None. The fields are in the order
    of the table's columns: names first, then plain values.
    """

    key_id: str = ""
    key_name: str = ""
    account: str = ""
    provider: str = ""
    asked: str = ""
    """The model that the client asked for."""
    session: str = ""
    agent: str = ""
    parent_agent: str = ""
    error: str = ""
    speed: str = ""
    service_tier: str = ""
    inference_geo: str = ""
    request_id: str = ""
    is_side: bool = False
    """Whether it is on a side route, such as counting tokens."""
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
    """The model that the upstream served, or else was asked for."""
    others: tuple[OtherModel, ...] = ()
    first_byte: float | None = None
    duration: float = 0.0

    @property
    def counts(self) -> TokenCounts:
        """The billed counts; an unknown one is 0."""
        return TokenCounts(
            self.input or 0,
            self.output or 0,
            self.cache_read or 0,
            self.cache_write_5m or 0,
            self.cache_write_1h or 0,
            self.web_searches or 0,
        )


NAMES: Final = slice(0, 12)
"""The fields of a `LedgerEntry` that are written as numbers of names."""
PLAIN: Final = slice(12, 27)
"""The fields of a `LedgerEntry` that are written unchanged."""


class WindowPoint(Struct, frozen=True):
    """The used share of an account's window at a time. Times are in seconds since 1970 UTC."""

    account: str
    window: str
    at: float
    used: float
    """A fraction, which may exceed 1."""
    reset: float
    status: str = ""
