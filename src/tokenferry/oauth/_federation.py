"""A workload's identity token, exchanged for an access token (RFC 7523)."""

from typing import Final

from tokenferry.credentials import FederatedToken, Federation
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._refresh import Granted, NotGranted
from tokenferry.oauth._token_answer import error_of, odd_token_type, read_token, refuses, server_words
from tokenferry.oauth._wire import HttpOutcome, TokenRequest, TokenResponse, client_request, retry_after
from tokenferry.secret import Fields, Secret, parse_object

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def federation_request(
    endpoints: OAuthEndpoints, federation: Federation, identity: Secret, client_secret: Secret | None
) -> TokenRequest:
    """Build the exchange. `endpoints` must have a federation_url or a token_endpoint."""
    url = endpoints.federation_url or endpoints.token_endpoint
    assert url is not None
    fields = Fields(endpoints.federation_parameters)
    fields.update(federation.parameters)
    if endpoints.scopes:
        fields.setdefault("scope", " ".join(endpoints.scopes))
    fields.update(grant_type=_GRANT, assertion=identity.reveal())
    request = client_request(endpoints, url, fields, client_secret)
    return TokenRequest(url, (*request.headers, *endpoints.federation_headers), request.body)


def read_federation(
    outcome: HttpOutcome, old: FederatedToken | Federation, identity: Secret, sent_at: float, now: float
) -> Granted | NotGranted:
    """Read the outcome of the exchange. `sent_at` and `now` are seconds since 1970 UTC.

    `old` is the token to replace, or the federation before its first token. The exchange uses nothing up, so a failure
    changes nothing.
    """
    before, federation = (old, old.federation) if isinstance(old, FederatedToken) else (None, old)
    if not isinstance(outcome, TokenResponse):
        return NotGranted(outcome.reason)
    fields = parse_object(outcome.body)
    if outcome.status // 100 == 2 and not refuses(fields):  # noqa: PLR2004  # the class of success
        given = Fields() if fields is None else fields.without("refresh_token")
        token = read_token(given, before, int(sent_at), "login" if before is None else "refresh")
        if token is None:
            return NotGranted("its identity token was exchanged, and the answer could not be read")
        if (kind := odd_token_type(given)) is not None:
            return NotGranted(
                f"its identity token was exchanged for one of type {kind}, and only Bearer ones can be used"
            )
        return Granted(FederatedToken.of(token, federation))
    words = server_words(*error_of(fields), (identity, None if before is None else before.secret))
    reason = f"its identity token was not exchanged: HTTP {outcome.status}" + (f" ({words})" if words else "")
    return NotGranted(reason, retry_after(outcome.headers, now))
