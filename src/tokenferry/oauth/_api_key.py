"""The creation of an API key with a login's access token, as the vendor's Console offers it to its own tools."""

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
    """Build the request for a key. `endpoints` must have an api_key_url."""
    assert endpoints.api_key_url is not None
    headers = (("accept", "application/json"), ("content-type", "application/json"), *token.headers())
    return TokenRequest(endpoints.api_key_url, headers, b"{}")


def read_api_key(outcome: HttpOutcome, endpoints: OAuthEndpoints, token: OAuthToken, now: float) -> ApiKey:
    """Read the new key. `now` is seconds since 1970 UTC.

    Raises `TryLater` where a new login may succeed later, `LoginFailed` where something else has to change first.
    """
    host = urlsplit(endpoints.api_key_url or "").hostname
    if not isinstance(outcome, TokenResponse):
        raise TryLater(
            f"{host} may or may not have made an API key: {outcome.reason}; look in the provider's own pages, "
            "or log in again later"
        )
    fields = parse_object(outcome.body)
    status = outcome.status
    if status // 100 == 2:  # noqa: PLR2004  # the class of success
        try:
            return ApiKey(Secret((fields or Fields())["raw_key"]))
        except (KeyError, ValueError, UsageError):
            pass
        raise LoginFailed(
            f"{host} made an API key that can't be read from its answer; delete that key in the provider's own pages"
        )
    words = server_words(*error_of(fields), (token.secret, token.refresh))
    reason = f"{host} made no API key: HTTP {status}" + (f" ({words})" if words else "")
    if status == _TOO_MANY or status // 100 == 5:  # noqa: PLR2004  # the class of server errors
        raise TryLater(f"{reason}; log in again later", retry_after=retry_after(outcome.headers, now))
    raise LoginFailed(f"{reason}; make one in the provider's own pages, and store it with: tokenferry account add NAME")
