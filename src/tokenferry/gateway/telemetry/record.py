from typing import Final

import msgspec

from tokenferry.budgets import Reservation
from tokenferry.pool import Trace
from tokenferry.streaming import TokenUsage

_BAD_REQUEST: Final = 400


class RoutingDecision(msgspec.Struct):
    """How a request got its account, or why it got none. It holds no secret."""

    rule: str | None = None
    """The rule that chose the candidate accounts."""
    trace: Trace | None = None
    """What befell the request, once accounts came into question."""
    message: str | None = None
    """The error message that the client got."""
    budgets: Reservation | None = None
    """The reserved and used amounts of the key's budgets; None without budgets."""


class RequestRecord(msgspec.Struct):
    """One request, for the access log and the metrics. It holds no secret.

    `at` is in seconds since 1970 UTC; other times are in seconds since `at`. Sizes are bytes of bodies. `client` is the
    name of a key, `error` is the gateway's cause or the upstream's error type.
    """

    request_id: str
    method: str
    path: str
    at: float = 0.0
    client: str | None = None
    key_id: str = ""
    account: str | None = None
    provider: str | None = None
    model: str | None = None
    requested: str = ""
    """The model as the client wrote it, which is never logged; `model` is the loggable form."""
    upstream_model: str | None = None
    """The provider's name of the model, if it differs."""
    served_model: str | None = None
    """The model that the upstream reports."""
    status: int = 0
    upstream_status: int | None = None
    first_byte: float | None = None
    duration: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    attempts: int = 0
    error: str | None = None
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    is_side: bool = False
    """Whether it asked for anything but an answer of a model."""
    is_unpriced: bool = False
    """Whether its cost is unknown."""
    translated: str | None = None
    """The formats of a translation, as `openai-to-anthropic`; None for an untranslated request."""
    left_out: tuple[str, ...] = ()
    """The fields that the translation left out."""
    session: str | None = None
    agent: str | None = None
    parent_agent: str | None = None
    decision: RoutingDecision | None = None
    """How the account was found; neither logged nor counted."""

    @property
    def rated_tokens(self) -> int | None:
        """The used tokens that rate limits count; None if an attempt's usage is unknown."""
        used = self.usage.rated
        return 0 if used is None and (not self.attempts or (self.upstream_status or 0) >= _BAD_REQUEST) else used

    def __repr__(self) -> str:
        return f"RequestRecord({self.request_id!r})"  # text of the client and the upstream is never shown
