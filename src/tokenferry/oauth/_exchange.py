"""The exchange of an authorization code for tokens (RFC 6749 4.1.3, 7636 4.5)."""

import binascii
from base64 import urlsafe_b64decode
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth._authorize import Authorization, AuthorizationCode
from tokenferry.oauth._token_answer import error_of, odd_token_type, read_token, refuses, server_words, text_of
from tokenferry.oauth._wire import HttpOutcome, NotSent, TokenRequest, TokenResponse, client_request, retry_after
from tokenferry.secret import Fields, Secret, parse_object

_TOO_MANY: Final = 429


def exchange_request(
    authorization: Authorization, answer: AuthorizationCode, client_secret: Secret | None, lifetime: int | None = None
) -> TokenRequest:
    """Build the exchange, at the token_endpoint. `lifetime`, in seconds, asks for an access token of that lifetime."""
    endpoints = authorization.endpoints
    assert endpoints.token_endpoint is not None
    fields = Fields(
        grant_type="authorization_code",
        code=answer.code.reveal(),
        redirect_uri=answer.redirect_uri,
        code_verifier=authorization.verifier.reveal(),
    )
    if endpoints.state_in_exchange:
        fields["state"] = authorization.state.reveal()
    if lifetime is not None:
        fields["expires_in"] = lifetime
    return client_request(endpoints, endpoints.token_endpoint, fields, client_secret)


def read_exchange(
    outcome: HttpOutcome, authorization: Authorization, answer: AuthorizationCode, sent_at: float, now: float
) -> OAuthToken:
    """Read the tokens. `sent_at` and `now` are seconds since 1970 UTC.

    Raises `TryLater` where a new login may succeed later, `LoginFailed` where something else has to change first.
    """
    host = urlsplit(authorization.endpoints.token_endpoint or "").hostname
    if isinstance(outcome, NotSent):
        raise TryLater(f"the login could not be completed: {outcome.reason}; log in again later")
    if not isinstance(outcome, TokenResponse):
        raise LoginFailed(f"the login was approved, but its tokens were lost: {outcome.reason}; log in again")
    fields = parse_object(outcome.body)
    status = outcome.status
    if status // 100 == 2 and not refuses(fields):  # noqa: PLR2004  # the class of success
        token = None if fields is None else read_token(fields, None, int(sent_at), "login")
        if fields is None or token is None:
            raise LoginFailed(f"{host} answered the login with no token that can be read; log in again")
        if (kind := odd_token_type(fields)) is not None:
            raise LoginFailed(f"{host} answered the login with a token of type {kind}; only Bearer ones can be used")
        token = token if token.scopes else replace(token, scopes=authorization.scopes)
        return with_identity(token, fields)
    secrets = (answer.code, authorization.verifier, authorization.state)
    words = server_words(*error_of(fields), secrets)
    reason = f"HTTP {status}" + (f" ({words})" if words else "")
    if status == _TOO_MANY or status // 100 == 5:  # noqa: PLR2004  # the class of server errors
        wait = retry_after(outcome.headers, now)
        raise TryLater(f"{host} could not complete the login: {reason}; log in again later", retry_after=wait)
    raise LoginFailed(f"{host} refused to complete the login: {reason}; {_remedy(*error_of(fields))}")


def _remedy(error: str, description: str) -> str:
    """Say how to fix a refused exchange. The description is not standardized and only refines the hint."""
    words = description.lower()
    if error in {"invalid_client", "unauthorized_client"}:
        return "it doesn't accept the client; check client_id and client_secret_file under [providers.oauth]"
    if error == "invalid_grant" and "redirect" in words:
        return "it expects another redirect; check redirect_uri under [providers.oauth], then log in again"
    if error == "invalid_grant" and any(word in words for word in ("verifier", "challenge", "pkce")):
        return "the code belongs to another login; log in again"
    if error == "invalid_grant":
        return "the code was used before, has expired, or belongs to another login; log in again"
    return "log in again"


def with_identity(token: OAuthToken, fields: Fields) -> OAuthToken:
    """Return the token with its owner's identity, from the id_token if the answer has it nowhere else.

    The signature need not be checked: the token came directly from the token endpoint (OpenID Connect Core 3.1.3.7).
    """
    if token.account_id or token.email:
        return token
    claims = _claims(text_of(fields, "id_token") or "")
    return replace(token, account_id=text_of(claims, "sub"), email=text_of(claims, "email"))


def _claims(id_token: str) -> Fields:
    payload = [*id_token.split("."), "", ""][1]
    try:
        raw = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    return parse_object(raw) or Fields()
