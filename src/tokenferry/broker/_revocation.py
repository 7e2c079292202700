"""Revokes a login at its provider (RFC 7009) before its account is removed."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from tokenferry.credentials import OAuthToken
from tokenferry.errors import CorruptFile, TokenferryError, UnsafeFile
from tokenferry.oauth import HttpOutcome, OAuthEndpoints, TokenRequest, read_revocation, revocation_request
from tokenferry.refresh import Journal, read_client_secret
from tokenferry.stores import Store

_TIMEOUT: Final = 10.0


class Revocation(Struct, frozen=True):
    """Whether a login was revoked at its provider, and if not, why; no reason if there was none of ours to revoke."""

    is_done: bool = False
    reason: str = ""


def revocable(name: str, store: Store, journal: Journal, machine: str) -> tuple[str, OAuthToken] | Revocation:
    """Return the account's provider and the newest token of its family, or why they can't be revoked.

    The caller holds the account's lock. Raises `UnknownAccount`.
    """
    try:
        document = store.read(name)
    except (CorruptFile, UnsafeFile):
        return Revocation(reason="its document can't be read")
    account, token = document.account, document.credential
    if not isinstance(token, OAuthToken) or token.is_exchanged:
        return Revocation()
    if account.owner != "tokenferry" or account.store != "file":
        return Revocation()
    if document.machine not in {None, machine}:
        return Revocation(reason="it was copied from another machine, where it may be in use")
    return account.provider, _newest(name, token, journal)


def _newest(name: str, token: OAuthToken, journal: Journal) -> OAuthToken:
    """Return the token, or its successor that only the journal holds so far."""
    try:
        attempt = journal.attempt(name)
    except (CorruptFile, UnsafeFile):
        return token
    if attempt is None or attempt.answer is None or token.refresh is None:
        return token
    return attempt.answer if attempt.token == token.refresh.sha256 else token


def revoke(
    endpoints: Callable[[], OAuthEndpoints], token: OAuthToken, send: Callable[[TokenRequest, float], HttpOutcome]
) -> Revocation:
    """Revoke it, if possible now. Raises nothing."""
    try:
        found = endpoints()
        if found.revocation_endpoint is None:
            return Revocation(reason="its provider declares no revocation_endpoint")
        request = revocation_request(found, token, read_client_secret(found))
    except TokenferryError as fault:
        return Revocation(reason=str(fault))
    reason = read_revocation(send(request, _TIMEOUT), token)
    return Revocation(is_done=reason is None, reason=reason or "")
