from collections.abc import Mapping
from typing import Protocol

from tokenferry.credentials import Credential
from tokenferry.providers import Provider
from tokenferry.routing import ListedAccounts
from tokenferry.secret import Secret
from tokenferry.state import ClientKey


class CredentialSource(Protocol):
    """Gives accounts and their credentials. `Broker` is the implementation."""

    @property
    def providers(self) -> Mapping[str, Provider]: ...

    def listing(self) -> ListedAccounts:
        """Give the accounts in order: the same object, without I/O, while nothing changes."""
        ...

    def fresh(self, name: str) -> Credential | None:
        """Give the account's credential if it is in memory, without I/O."""
        ...

    async def aresolve(self, name: str | None = None, *, refused: Secret | None = None) -> Credential:
        """Give the account's credential, refreshed if needed. Raises a `TokenferryError`, which may be the policy's.

        `refused` is a token that the upstream has just refused, and that must not be given again.
        """
        ...

    def invalidate(self, name: str, secret: Secret) -> None:
        """Stop giving out this refused token. Does nothing if the account has another token already."""
        ...


class KeyRing(Protocol):
    """Checks client keys."""

    def verify(self, presented: str) -> ClientKey | None:
        """Give the key with this secret, None for an unknown one. Never raises."""
        ...

    def expired(self, presented: str) -> ClientKey | None:
        """Give the expired key with this secret. Never raises."""
        ...

    def is_away(self) -> bool:
        """Whether an unknown key may be valid nevertheless, because the database is unavailable."""
        ...

    def is_sole(self) -> bool:
        """Whether exactly one key may use inference, so that its owner may see an account's limits."""
        ...
