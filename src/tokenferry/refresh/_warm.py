from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.refresh._job import seconds_left, window
from tokenferry.secret import Secret
from tokenferry.settings import RefreshSettings

ADVISORY_PAUSE: Final = 5.0
"""Seconds for which a token that could not be bettered is handed out before the next look."""


class WarmCredential(Struct, frozen=True):
    """A credential that may be handed out until then (seconds since 1970 UTC) without a look at anything."""

    credential: Credential
    until: float


class WarmCredentials:
    """What may be handed out without I/O, by account; under None that of the account which no name picks.

    Any thread may read, keep and forget. `revision` is another object after each `forget`: what was read before one
    is not kept after it.
    """

    def __init__(self) -> None:
        self.entries: dict[str | None, WarmCredential] = {}
        self.revision = object()

    def keep(self, keys: Iterable[str | None], credential: Credential, until: float, revision: object) -> None:
        """Keep a credential that was read at this revision."""
        if revision is not self.revision:
            return
        entry = WarmCredential(credential, until)
        for key in keys:
            self.entries[key] = entry
        if revision is not self.revision:  # if the account was forgotten in between, the entry goes
            self._remove(keys)

    def forget(self, names: Iterable[str]) -> None:
        self.revision = object()
        self._remove((*names, None))

    def holds(self, name: str | None) -> Credential | None:
        """The credential kept, fresh or not."""
        entry = self.entries.get(name)
        return None if entry is None else entry.credential

    def names_of(self, secret: Secret) -> list[str]:
        """The accounts that this secret is kept for."""
        return [name for name, entry in list(self.entries.items()) if name and entry.credential.secret == secret]

    def _remove(self, keys: Iterable[str | None]) -> None:
        for key in keys:
            self.entries.pop(key, None)


def asked_again(credential: Credential) -> float:
    """When a key that a command printed is to be asked for again, in seconds since 1970 UTC; else never."""
    if isinstance(credential, ApiKey) and credential.until is not None:
        return credential.until
    return float("inf")


def fresh_until(credential: Credential, now: float, settings: RefreshSettings) -> float:
    """Until when nothing has to be looked at before this credential is handed out; all in seconds since 1970 UTC."""
    if not isinstance(credential, OAuthToken):
        return asked_again(credential)
    expires = now + seconds_left(credential, now)
    until = expires - window(credential, settings.advisory)
    if until > now:
        return until
    # In the advisory window: look again soon, at the latest when waiting becomes due.
    return min(now + ADVISORY_PAUSE, expires - window(credential, settings.mandatory))
