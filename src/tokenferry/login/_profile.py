from collections.abc import Callable
from typing import Final

from tokenferry.credentials import OAuthToken
from tokenferry.oauth import HttpOutcome, OAuthEndpoints, TokenRequest, profile_request, read_profile

_TIMEOUT: Final = 10.0


def identified(
    endpoints: OAuthEndpoints, token: OAuthToken, send: Callable[[TokenRequest, float], HttpOutcome]
) -> OAuthToken:
    """Return the token with its owner's identity, asked of the provider's profile_url if unknown. Raises nothing."""
    if token.email is not None or token.account_id is not None or endpoints.profile_url is None:
        return token
    return read_profile(send(profile_request(endpoints, token), _TIMEOUT), token)
