"""The identity of a login's owner: from the vendor's profile, or OpenID Connect's userinfo."""

from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import text_of
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse
from tokenferry.secret import parse_object

_OK: Final = 200


def profile_request(endpoints: OAuthEndpoints, token: OAuthToken) -> TokenRequest:
    """Build the request, with the login's access token. `endpoints` must have a profile_url."""
    assert endpoints.profile_url is not None
    return TokenRequest(endpoints.profile_url, (("accept", "application/json"), *token.headers()), b"", "GET")


def read_profile(outcome: HttpOutcome, token: OAuthToken) -> OAuthToken:
    """Return the token with the identity in the answer; known fields are not replaced. Raises nothing."""
    fields = parse_object(outcome.body) if isinstance(outcome, TokenResponse) else None
    if fields is None or not isinstance(outcome, TokenResponse) or outcome.status != _OK:
        return token
    account, organization = fields.get("account"), fields.get("organization")
    return replace(
        token,
        email=token.email or text_of(account, "email") or text_of(account, "email_address") or text_of(fields, "email"),
        account_id=token.account_id or text_of(account, "uuid") or text_of(fields, "sub"),
        organization_id=token.organization_id or text_of(organization, "uuid"),
    )
