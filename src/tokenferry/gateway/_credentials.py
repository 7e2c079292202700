from collections.abc import Mapping
from typing import Protocol

from tokenferry.credentials import Credential
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.state import ClientKey
from tokenferry.stores import Account


class CredentialSource(Protocol):
    """What the gateway needs of a `Broker`."""

    @property
    def providers(self) -> Mapping[str, Provider]: ...

    def accounts(self) -> list[Account]:
        """The accounts in order. Asked for once per request, so without I/O when nothing changed."""
        ...

    async def aresolve(self, name: str | None = None) -> Credential:
        """Raises the `TokenferryError` that says why there is none, policy's refusal included."""
        ...

    def invalidate(self, name: str, secret: Secret) -> None:
        """Take note that the upstream answered this secret with a 401; nothing if the account has another by now."""
        ...


class KeyRing(Protocol):
    """Who knows the client keys."""

    def verify(self, presented: str) -> ClientKey | None:
        """Never raises, whatever was presented."""
        ...

    def expired(self, presented: str) -> ClientKey | None:
        """Give the key this was until it expired. Never raises."""
        ...

    def is_sole(self) -> bool:
        """Tell whether there is exactly one key for inference, so that an account's limits are its caller's."""
        ...
