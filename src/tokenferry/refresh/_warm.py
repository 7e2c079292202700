from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.refresh._job import seconds_left, window
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings

ADVISORY_PAUSE: Final = 5.0
"""Seconds for which a token in its advisory window is handed out before the next check."""


class WarmCredential(Struct, frozen=True):
    """A credential that may be handed out without any check until `until` (seconds since 1970 UTC)."""

    credential: Credential
    until: float


class WarmCredentials:
    """The credentials that may be handed out without I/O, by account; None is the key of the default account.

    Thread-safe. Each `forget` changes `revision`, so that `keep` ignores a credential read before it.
    """

    def __init__(self) -> None:
        self.entries: dict[str | None, WarmCredential] = {}
        self.revision = object()

    def keep(self, keys: Iterable[str | None], credential: Credential, until: float, revision: object) -> None:
        """Store a credential that was read at this revision."""
        if revision is not self.revision:
            return
        entry = WarmCredential(credential, until)
        for key in keys:
            self.entries[key] = entry
        if revision is not self.revision:  # the account was forgotten while this was stored
            self._remove(keys)

    def forget(self, names: Iterable[str]) -> None:
        self.revision = object()
        self._remove((*names, None))

    def holds(self, name: str | None) -> Credential | None:
        """Return the stored credential, fresh or not."""
        entry = self.entries.get(name)
        return None if entry is None else entry.credential

    def names_of(self, secret: Secret) -> list[str]:
        """Return the accounts whose stored credential has this secret."""
        return [name for name, entry in list(self.entries.items()) if name and entry.credential.secret == secret]

    def _remove(self, keys: Iterable[str | None]) -> None:
        for key in keys:
            self.entries.pop(key, None)


def asked_again(credential: Credential) -> float:
    """Return when a key printed by a command must be fetched again (seconds since 1970 UTC); infinite for others."""
    if isinstance(credential, ApiKey) and credential.until is not None:
        return credential.until
    return float("inf")


def fresh_until(credential: Credential, now: float, settings: RefreshSettings) -> float:
    """Return until when this credential may be handed out without any check; all in seconds since 1970 UTC."""
    if not isinstance(credential, OAuthToken):
        return asked_again(credential)
    expires = now + seconds_left(credential, now)
    until = expires - window(credential, settings.advisory)
    if until > now:
        return until
    # In the advisory window: check again soon, at the latest when the mandatory window begins.
    return min(now + ADVISORY_PAUSE, expires - window(credential, settings.mandatory))
