"""Ending a login at its provider (RFC 7009), before its account goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenferry.credentials import FederatedToken, OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.oauth import OAuthEndpoints, TokenRequest, Transmission, read_revocation, revocation_request
from tokenferry.refresh import Attempt, read_client_secret
from tokenferry.stores import Document

_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Revocation:
    """Whether a login was ended at its provider, and if not, why; without a reason there was none of ours to end."""

    is_done: bool = False
    reason: str = ""


def revocable(document: Document, attempt: Attempt | None, machine: str) -> OAuthToken | Revocation:
    """The newest token of the document's chain if that is ours to revoke; else why it isn't."""
    token = document.credential
    if not isinstance(token, OAuthToken) or isinstance(token, FederatedToken):
        return Revocation()
    if document.account.owner != "tokenferry" or document.account.store != "file":
        return Revocation()
    if document.machine not in {None, machine}:
        return Revocation(reason="it was copied from another machine, where it may be in use")
    if attempt is not None and attempt.answer is not None and token.refresh is not None:
        return attempt.answer if attempt.token == token.refresh.sha256 else token
    return token


def revoke(
    endpoints: Callable[[], OAuthEndpoints], token: OAuthToken, send: Callable[[TokenRequest, float], Transmission]
) -> Revocation:
    """Revoke it, as well as that can be done now. Raises nothing."""
    try:
        found = endpoints()
        if found.revoke_url is None:
            return Revocation(reason="its provider declares no revoke_url")
        request = revocation_request(found, token, read_client_secret(found))
    except TokenferryError as fault:
        return Revocation(reason=str(fault))
    reason = read_revocation(send(request, _TIMEOUT), token)
    return Revocation(is_done=reason is None, reason=reason or "")
