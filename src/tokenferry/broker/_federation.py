"""The first token of an exchange, before there is an account to hold it."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import ExchangedToken, FederatedToken, Federation, OAuthToken
from tokenferry.errors import CredentialRefused, LoginFailed, TryLater
from tokenferry.oauth import (
    Denied,
    Granted,
    HttpOutcome,
    OAuthEndpoints,
    TokenExchange,
    TokenRequest,
    TokenResponse,
    federation_request,
    read_federation,
    read_token_exchange,
    token_exchange_request,
)
from tokenferry.refresh import read_client_secret, read_identity
from tokenferry.secret import Secret

_TIMEOUT: Final = 30.0
_WHOSE: Final = ("email", "account_id", "organization_id", "scopes", "subscription_type")


def exchange(
    endpoints: OAuthEndpoints,
    federation: Federation,
    send: Callable[[TokenRequest, float], HttpOutcome],
    now: Callable[[], float],
) -> FederatedToken:
    """Raises `LoginFailed` if something has to change first, `TryLater` if not, and what reading secrets raises."""
    identity = read_identity(federation)
    request = federation_request(endpoints, federation, identity, read_client_secret(endpoints))
    sent_at = now()
    transmission = send(request, _TIMEOUT)
    outcome = read_federation(transmission, federation, identity, sent_at, now())
    if isinstance(outcome, Granted):
        assert isinstance(outcome.token, FederatedToken)
        return outcome.token
    if isinstance(transmission, TokenResponse) and transmission.status // 100 == 4:  # noqa: PLR2004  # the class of client errors
        raise LoginFailed(f"{outcome.reason}; check the federation's parameters and the token in {federation.source}")
    raise TryLater(f"{outcome.reason}; try again later", retry_after=outcome.retry_after)


def exchange_token(
    declared: TokenExchange,
    subject: Secret,
    login: OAuthToken | None,
    send: Callable[[TokenRequest, float], HttpOutcome],
    now: Callable[[], float],
) -> ExchangedToken:
    """Exchange a long-lived token for one of the API; `login` is the login it belongs to, which names its owner.

    Raises `CredentialRefused` where the provider refuses the token (401, 403), `LoginFailed` where the declaration is
    wrong, `TryLater` otherwise.
    """
    sent_at = now()
    transmission = send(token_exchange_request(declared, subject), _TIMEOUT)
    outcome = read_token_exchange(transmission, declared, subject, None, sent_at=sent_at, now=now())
    if isinstance(outcome, Granted):
        assert isinstance(outcome.token, ExchangedToken)
        known = {} if login is None else {name: getattr(login, name) for name in _WHOSE}
        return replace(outcome.token, **known)
    if isinstance(outcome, Denied):
        raise CredentialRefused(f"{outcome.reason}; nothing was stored; use another token, or get access for this one")
    if isinstance(transmission, TokenResponse) and transmission.status // 100 in {2, 4}:
        raise LoginFailed(f"{outcome.reason}; nothing was stored")
    raise TryLater(f"{outcome.reason}; nothing was stored, try again later", retry_after=outcome.retry_after)
