from collections.abc import Mapping
from typing import Protocol

from tokenferry.credentials import Credential
from tokenferry.providers import Provider
from tokenferry.routing import ListedAccounts
from tokenferry.secret import Secret
from tokenferry.state import ClientKey


class CredentialSource(Protocol):
    """What the gateway needs of a `Broker`."""

    @property
    def providers(self) -> Mapping[str, Provider]: ...

    def listing(self) -> ListedAccounts:
        """The accounts in order: the same object as long as nothing changed, and no I/O then."""
        ...

    def fresh(self, name: str) -> Credential | None:
        """The account's credential if it is in memory: without I/O, and without waiting."""
        ...

    async def aresolve(self, name: str | None = None, *, refused: Secret | None = None) -> Credential:
        """Raises the `TokenferryError` that says why there is none, policy's refusal included.

        `refused` is the token that the upstream refused just now, which another one is wanted for.
        """
        ...

    def invalidate(self, name: str, secret: Secret) -> None:
        """Hand this token out no more, since it was refused; nothing if the account has another already."""
        ...


class KeyRing(Protocol):
    """Who knows the client keys."""

    def verify(self, presented: str) -> ClientKey | None:
        """Never raises, whatever was presented."""
        ...

    def expired(self, presented: str) -> ClientKey | None:
        """Give the key this was until it expired. Never raises."""
        ...

    def is_away(self) -> bool:
        """Tell whether a key that isn't known may be good all the same, because the database can't be asked."""
        ...

    def is_sole(self) -> bool:
        """Tell whether there is exactly one key for inference, so that an account's limits are its caller's."""
        ...
