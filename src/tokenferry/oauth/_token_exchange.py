"""A long-lived token, exchanged for a short-lived one of the API as a provider declares it.

In RFC 8693's terms the long-lived token is the subject token. The exchanges in use differ from the RFC and from each
other, so the request and the places of the answer's fields are data.
"""

from typing import Any, Final

from msgspec.structs import replace

from tokenferry.credentials import ExchangedToken, OAuthToken
from tokenferry.oauth._endpoints import SUBJECT, TokenExchange
from tokenferry.oauth._refresh import Denied, Granted, NotGranted
from tokenferry.oauth._token_answer import error_of, lifetime_of, refuses, seconds_until, server_words, text_of
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse, encode_request, retry_after
from tokenferry.secret import Fields, Secret, parse_object

_REFUSED: Final = frozenset((401, 403))


def token_exchange_request(exchange: TokenExchange, subject: Secret) -> TokenRequest:
    """Build the declared exchange; it must have a url."""
    assert exchange.url is not None

    def filled(pairs: tuple[tuple[str, str], ...]) -> Fields:
        return Fields((name, value.replace(SUBJECT, subject.reveal())) for name, value in pairs)

    if exchange.method == "GET":
        own = TokenRequest(exchange.url, (("accept", "application/json"),), b"", "GET")
    else:
        own = encode_request(exchange.url, filled(exchange.parameters), exchange.body)
    return TokenRequest(exchange.url, (*own.headers, *filled(exchange.headers).items()), own.body, exchange.method)


def read_token_exchange(
    outcome: HttpOutcome,
    exchange: TokenExchange,
    subject: Secret,
    old: ExchangedToken | None,
    *,
    sent_at: float,
    now: float,
) -> Granted | Denied | NotGranted:
    """Read the outcome of the exchange. `sent_at` and `now` are seconds since 1970 UTC.

    `old` is the token to replace, None for the first. 401 and 403 mean that the long-lived token is refused.
    """
    if not isinstance(outcome, TokenResponse):
        return NotGranted(outcome.reason)
    fields = parse_object(outcome.body)
    if outcome.status // 100 != 2 or (fields is not None and refuses(fields)):  # noqa: PLR2004  # the class of success
        words = server_words(*_error(fields), (subject, None if old is None else old.secret))
        reason = f"its token was not exchanged: HTTP {outcome.status}" + (f" ({words})" if words else "")
        if outcome.status in _REFUSED:
            return Denied(reason)
        return NotGranted(reason, retry_after(outcome.headers, now))
    token = _token(fields or Fields(), exchange, old, int(sent_at))
    if token is None:
        return NotGranted(
            f"its token was exchanged, and the answer has no {exchange.token_field}; correct token_field under "
            "[providers.token_exchange]"
        )
    endpoint = None if exchange.endpoint_field is None else _at(fields, exchange.endpoint_field)
    if endpoint is not None and (fault := exchange.endpoint_fault(str(endpoint))):
        return NotGranted(f"its token was exchanged, and {fault}")
    return Granted(ExchangedToken.of(token, subject, None if endpoint is None else str(endpoint).rstrip("/")))


def _token(fields: Fields, exchange: TokenExchange, old: ExchangedToken | None, sent_at: int) -> OAuthToken | None:
    try:
        secret = Secret(_at(fields, exchange.token_field))
    except (TypeError, ValueError):
        return None
    lifetime = lifetime_of(seconds_until(_at(fields, exchange.expiry_field), sent_at))
    times = {"expires_at": sent_at + lifetime, "lifetime": lifetime, "obtained_at": sent_at}
    return replace(old or OAuthToken(secret), secret=secret, source="refresh" if old else "login", **times)


def _at(fields: Any, path: str) -> Any:
    """Return the value at a path of names with dots between them, or None."""
    for name in path.split("."):
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields


def _error(fields: Fields | None) -> tuple[str, str]:
    """Return code and description of an error, in OAuth's shape or another usual one."""
    code, description = error_of(fields)
    details = None if fields is None else fields.get("error_details")
    return code, description or text_of(details, "message") or text_of(fields, "message") or ""
