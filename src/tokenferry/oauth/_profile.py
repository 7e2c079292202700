"""Whose a login is, where the token answer doesn't say so: the vendor's profile, or OpenID Connect's userinfo."""

from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import text_of
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse
from tokenferry.secret import parse_object

_OK: Final = 200


def profile_request(endpoints: OAuthEndpoints, token: OAuthToken) -> TokenRequest:
    """Ask with the login's access token. A profile_url must be named."""
    assert endpoints.profile_url is not None
    return TokenRequest(endpoints.profile_url, (("accept", "application/json"), *token.headers()), b"", "GET")


def read_profile(outcome: HttpOutcome, token: OAuthToken) -> OAuthToken:
    """The token with who it is for, as far as the answer says it; nothing that is known is replaced, nothing raised."""
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
