"""A workload's first token, before there is an account to hold it."""

from collections.abc import Callable
from typing import Final

from tokenferry.credentials import FederatedToken, Federation
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth import (
    Granted,
    HttpOutcome,
    OAuthEndpoints,
    TokenRequest,
    TokenResponse,
    federation_request,
    read_federation,
)
from tokenferry.refresh import read_client_secret, read_identity

_TIMEOUT: Final = 30.0


def exchange(
    endpoints: OAuthEndpoints,
    federation: Federation,
    send: Callable[[TokenRequest, float], HttpOutcome],
    now: Callable[[], float],
) -> FederatedToken:
    """Raises `LoginFailed` where something has to change first, `TryLater` where not, and what reading secrets does."""
    identity = read_identity(federation)
    request = federation_request(endpoints, federation, identity, read_client_secret(endpoints))
    sent_at = now()
    transmission = send(request, _TIMEOUT)
    outcome = read_federation(transmission, federation, identity, sent_at, now())
    if isinstance(outcome, Granted):
        assert isinstance(outcome.token, FederatedToken)
        return outcome.token
    if isinstance(transmission, TokenResponse) and transmission.status // 100 == 4:  # noqa: PLR2004  # the class of client errors
        raise LoginFailed(f"{outcome.reason}; check the federation's parameters, and what {federation.source} holds")
    raise TryLater(f"{outcome.reason}; try again later", retry_after=outcome.retry_after)
