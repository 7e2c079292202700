"""The names that a client key's rights may contain."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from tokenferry.broker import Broker
from tokenferry.errors import UnknownAccount, UnknownProvider, UsageError
from tokenferry.state import Rights


class KnownNames(Struct, frozen=True):
    """The known names: accounts with their providers, and providers."""

    accounts: Mapping[str, str]
    broken: tuple[str, ...]
    providers: tuple[str, ...]

    @classmethod
    def of(cls, broker: Broker) -> "KnownNames":
        listing = broker.book.listing()
        return cls({one.name: one.provider for one in listing.accounts}, tuple(listing.broken), tuple(broker.providers))

    def check_accounts(self, names: Iterable[str]) -> None:
        """Raise `UnknownAccount` for an unknown name."""
        every = (*self.accounts, *self.broken)
        for name in names:
            if name not in every:
                raise UnknownAccount.among("account", name, every, "tokenferry account list")

    def check_providers(self, names: Iterable[str]) -> None:
        """Raise `UnknownProvider` for an unknown name."""
        for name in names:
            if name not in self.providers:
                raise UnknownProvider.among("provider", name, self.providers, "tokenferry provider list")

    def check(self, rights: Rights) -> None:
        """Raise `UnknownName` for an unknown name, `UsageError` for rights that nothing could serve."""
        self.check_accounts((*rights.accounts, *filter(None, [rights.pin])))
        self.check_providers(rights.providers)
        for name in filter(None, [rights.pin]) if rights.pin else rights.accounts:
            provider = self.accounts.get(name)
            if provider is not None and not rights.allows_provider(provider):
                raise UsageError(
                    f"account {name} belongs to provider {provider}, which this key may not use; allow that, too "
                    f"(--provider {provider}), or leave the account out"
                )
