from collections import deque
from collections.abc import Callable
from typing import Final

from tokenferry.accounts import ENVIRONMENT
from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import CredentialRefused
from tokenferry.refresh import RefreshRequest, asked_again, is_of_unknown_age, seconds_left, window
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings
from tokenferry.stores import Document

_REFUSALS: Final = 1000
_LOCK_SHARE: Final = 0.9  # of the callers' wait, so that the error can name the lock's holder


class Due:
    """Decides which grant a credential needs before it is handed out, by its age and by refusals.

    `now` gives seconds since 1970 UTC.
    """

    def __init__(self, settings: RefreshSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._refused: deque[str] = deque(maxlen=_REFUSALS)

    def refuse(self, secret: Secret) -> None:
        """Record that the provider refused this token."""
        self._refused.append(secret.sha256)

    def job(
        self, name: str, document: Document, min_ttl: float | None, refused: Secret | None = None
    ) -> RefreshRequest | None:
        """Return the grant to wait for before the credential can be used, if any. Raises `CredentialRefused`.

        `refused` is a refused token that counts as such for this caller alone.
        """
        token = document.credential
        if not isinstance(token, OAuthToken):
            return None
        if token.secret.sha256 in self._refused or token.secret == refused:
            if document.account.store == ENVIRONMENT:
                raise CredentialRefused(f"the provider refuses the token in {name}; put another into that variable")
            return self.job_for(name, refused=token.secret.sha256)
        left = seconds_left(token, self._now())
        if not _is_ours(document, token):
            return self.job_for(name) if left <= 0 else None  # the flow raises the detailed reason
        needs = self._settings.mandatory if min_ttl is None else max(min_ttl, self._settings.mandatory)
        is_due = is_of_unknown_age(document) or left <= window(token, needs)
        return self.job_for(name, needs=needs) if is_due else None

    def early_job(self, name: str, document: Document) -> RefreshRequest | None:
        """Return the early grant, for which no caller waits; None if it is not due yet."""
        token = document.credential
        if not isinstance(token, OAuthToken) or not _is_ours(document, token):
            return None
        if seconds_left(token, self._now()) > window(token, self._settings.advisory):
            return None
        return RefreshRequest(name, needs=self._settings.advisory, wait=0.0)

    def settled_until(self, document: Document, min_ttl: float) -> float:
        """Return until when neither `job` nor `early_job` asks for a grant, in seconds since 1970 UTC."""
        token = document.credential
        if not isinstance(token, OAuthToken) or (token.expires_at is None and not is_of_unknown_age(document)):
            return asked_again(token)
        needs = max(min_ttl, self._settings.advisory) if _is_ours(document, token) else 0.0
        return (token.expires_at or 0) - window(token, needs)

    def job_for(
        self, name: str, *, needs: float = 0.0, refused: str | None = None, forced: bool = False
    ) -> RefreshRequest:
        return RefreshRequest(name, needs=needs, wait=self._settings.wait * _LOCK_SHARE, refused=refused, forced=forced)

    def is_due(self, credential: Credential) -> bool:
        """Whether it is about to expire, so that it is renewed in any case."""
        if not isinstance(credential, OAuthToken):
            return False
        return seconds_left(credential, self._now()) <= window(credential, self._settings.mandatory)

    def is_usable(self, credential: Credential, job: RefreshRequest) -> bool:
        """Whether a credential that this job failed to renew can still be used."""
        is_refused = credential.secret.sha256 == job.refused
        return isinstance(credential, OAuthToken) and seconds_left(credential, self._now()) > 0 and not is_refused


def _is_ours(document: Document, token: OAuthToken) -> bool:
    """Whether its token family is renewed ahead of time, which only tokenferry's own are."""
    return document.account.owner == "tokenferry" and token.is_renewable
