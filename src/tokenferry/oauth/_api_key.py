"""An API key that a login has made for itself: what the vendor's Console offers to its own tools."""

from typing import Final
from urllib.parse import urlsplit

from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import LoginFailed, TryLater, UsageError
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import error_of, server_words
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse, retry_after
from tokenferry.secret import Fields, Secret, parse_object

_TOO_MANY: Final = 429


def api_key_request(endpoints: OAuthEndpoints, token: OAuthToken) -> TokenRequest:
    """Ask for a key with the login's access token. An api_key_url must be named."""
    assert endpoints.api_key_url is not None
    headers = (("accept", "application/json"), ("content-type", "application/json"), *token.headers())
    return TokenRequest(endpoints.api_key_url, headers, b"{}")


def read_api_key(outcome: HttpOutcome, endpoints: OAuthEndpoints, token: OAuthToken, now: float) -> ApiKey:
    """The key that was made. `now` is seconds since 1970 UTC.

    Raises `TryLater` where a new login may succeed later, `LoginFailed` where something else has to change first.
    """
    host = urlsplit(endpoints.api_key_url or "").hostname
    if not isinstance(outcome, TokenResponse):
        raise TryLater(
            f"{host} was asked for an API key, and what became of that isn't known: {outcome.reason}; look in the "
            "provider's own pages, or log in again later"
        )
    fields = parse_object(outcome.body)
    status = outcome.status
    if status // 100 == 2:  # noqa: PLR2004  # the class of success
        try:
            return ApiKey(Secret((fields or Fields())["raw_key"]))
        except (KeyError, ValueError, UsageError):
            pass
        raise LoginFailed(f"{host} answered with no API key that can be read; delete it in the provider's own pages")
    words = server_words(*error_of(fields), (token.secret, token.refresh))
    reason = f"{host} made no API key: HTTP {status}" + (f" ({words})" if words else "")
    if status == _TOO_MANY or status // 100 == 5:  # noqa: PLR2004  # the class of server errors
        raise TryLater(f"{reason}; log in again later", retry_after=retry_after(outcome.headers, now))
    raise LoginFailed(f"{reason}; make one in the provider's own pages, and store it with: tokenferry account add NAME")
