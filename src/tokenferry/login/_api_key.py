import time
from collections.abc import Callable
from typing import Final

from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.oauth import HttpOutcome, OAuthEndpoints, TokenRequest, api_key_request, read_api_key

_TIMEOUT: Final = 30.0


def make_api_key(
    endpoints: OAuthEndpoints,
    token: OAuthToken,
    send: Callable[[TokenRequest, float], HttpOutcome],
    now: Callable[[], float] = time.time,
) -> ApiKey:
    """Create an API key with a login's token. Needs an `api_key_url`. Raises `LoginFailed`, `TryLater`."""
    return read_api_key(send(api_key_request(endpoints, token), _TIMEOUT), endpoints, token, now())
