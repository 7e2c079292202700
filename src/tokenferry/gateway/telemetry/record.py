from typing import Final

import msgspec

from tokenferry.budgets import Reservation
from tokenferry.pool import Trace
from tokenferry.streaming import TokenUsage

_BAD_REQUEST: Final = 400


class RoutingDecision(msgspec.Struct):
    """How a request came to the account that served it, or why none did. Nothing in it is secret."""

    rule: str | None = None
    """What decided which accounts come into question."""
    trace: Trace | None = None
    """What befell the request, once accounts came into question."""
    message: str | None = None
    """The error message that the client got in place of an answer."""
    budgets: Reservation | None = None
    """What of the key's budgets was reserved and used; None where none holds."""


class RequestRecord(msgspec.Struct):
    """What the access log and the metrics say of one request. Nothing in it is secret.

    `at` is seconds since 1970 UTC, other times are seconds since then, sizes are bytes of bodies. `client` is a key's
    name, `error` a word for what went wrong: ours, or the type that the upstream gave.
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
    """What its provider calls the model, where that is another name."""
    served_model: str | None = None
    """What the upstream says it served, in its own words."""
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
    """Whether it asked for something else than an answer of a model."""
    is_unpriced: bool = False
    """Whether it costs what isn't known."""
    translated: str | None = None
    """From what format into which it was translated; None where it was not."""
    left_out: tuple[str, ...] = ()
    """The fields that a translated request was sent without."""
    session: str | None = None
    agent: str | None = None
    parent_agent: str | None = None
    decision: RoutingDecision | None = None
    """How the account was found; neither logged nor counted."""

    @property
    def rated_tokens(self) -> int | None:
        """The tokens used, as rate limits count them; None where something was sent that no answer tells of."""
        used = self.usage.rated
        return 0 if used is None and (not self.attempts or (self.upstream_status or 0) >= _BAD_REQUEST) else used

    def __repr__(self) -> str:
        return f"RequestRecord({self.request_id!r})"  # the client's own words, and the upstream's, are shown nowhere
