"""Revocation of a login (RFC 7009)."""

from tokenferry.credentials import OAuthToken
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._token_answer import error_of, refuses, server_words
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse, client_request
from tokenferry.secret import Fields, Secret, parse_object


def revocation_request(endpoints: OAuthEndpoints, token: OAuthToken, client_secret: Secret | None) -> TokenRequest:
    """Build the revocation of the refresh token, else of the access token. Needs a revocation_endpoint."""
    assert endpoints.revocation_endpoint is not None
    hint = "access_token" if token.refresh is None else "refresh_token"
    fields = Fields(token=(token.refresh or token.secret).reveal(), token_type_hint=hint)
    return client_request(endpoints, endpoints.revocation_endpoint, fields, client_secret)


def read_revocation(outcome: HttpOutcome, token: OAuthToken) -> str | None:
    """Say why the login may still be valid; None if it is revoked or unknown to the server."""
    if not isinstance(outcome, TokenResponse):
        return outcome.reason
    fields = parse_object(outcome.body)
    if outcome.status // 100 == 2 and not refuses(fields):  # noqa: PLR2004  # the class of success
        return None
    words = server_words(*error_of(fields), (token.secret, token.refresh))
    return f"HTTP {outcome.status}" + (f" ({words})" if words else "")
