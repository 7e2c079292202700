import logging
from typing import Final, TypeAlias

from msgspec import Struct

from tokenferry.credentials import OAuthToken
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import (
    error_codes,
    error_of,
    odd_refresh,
    odd_token_type,
    read_token,
    refuses,
    server_words,
)
from tokenferry.oauth._wire import HttpOutcome, NotSent, TokenRequest, TokenResponse, client_request, retry_after
from tokenferry.secret import Fields, Secret, parse_object

logger = logging.getLogger(__name__)

_DEAD: Final = frozenset({"invalid_grant", "refresh_token_reused", "bad_refresh_token"})
_TOO_MANY: Final = 429


class Granted(Struct, frozen=True):
    """The server gave new tokens.

    Without `knows_successor` the refresh token among them is the old one, which may be spent: the new one could not be
    read.
    """

    token: OAuthToken
    knows_successor: bool = True


class Denied(Struct, frozen=True):
    """The server says that this refresh token is dead (RFC 6749 5.2, invalid_grant)."""

    reason: str


class NotGranted(Struct, frozen=True):
    """Nothing was granted or decided; the same token may be presented again, after `retry_after` seconds if given."""

    reason: str
    retry_after: float | None = None


class Uncertain(Struct, frozen=True):
    """The server may have rotated the token; its answer is lost."""

    reason: str


Outcome: TypeAlias = Granted | Denied | NotGranted | Uncertain


def refresh_request(endpoints: OAuthEndpoints, refresh: Secret, client_secret: Secret | None) -> TokenRequest:
    """Build a refresh grant (RFC 6749 6). `endpoints` must have a token_endpoint."""
    assert endpoints.token_endpoint is not None
    fields = Fields(grant_type="refresh_token", refresh_token=refresh.reveal())
    return client_request(endpoints, endpoints.token_endpoint, fields, client_secret)


def read_refresh(outcome: HttpOutcome, old: OAuthToken, sent_at: float, now: float) -> Outcome:
    """Read the outcome of a refresh grant. `sent_at` and `now` are seconds since 1970 UTC."""
    if isinstance(outcome, NotSent):
        return NotGranted(outcome.reason)
    if not isinstance(outcome, TokenResponse):
        return Uncertain(outcome.reason)
    fields = parse_object(outcome.body)
    if outcome.status // 100 == 2 and not refuses(fields):  # noqa: PLR2004  # the class of success
        token = None if fields is None else read_token(fields, old, int(sent_at), "refresh")
        if fields is None or token is None:
            return Uncertain("the answer could not be read")
        if (kind := odd_token_type(fields)) is not None:  # the old refresh token may be spent: use what was given
            logger.warning("a refresh was answered with a token of type %s; it is taken as Bearer", kind)
        if odd_refresh(fields):
            logger.warning("a refresh was answered with a refresh token that can't be read; the old one stays")
        return Granted(token, knows_successor=not odd_refresh(fields))
    words = server_words(*error_of(fields), (old.secret, old.refresh))
    decides = outcome.status // 100 in {2, 4} and outcome.status != _TOO_MANY
    if decides and _DEAD.intersection(error_codes(fields)):
        return Denied(words)
    reason = f"HTTP {outcome.status}" + (f" ({words})" if words else "")
    return NotGranted(reason, retry_after(outcome.headers, now))
