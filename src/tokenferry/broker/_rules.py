"""The configuration's rules about credentials: their providers, and the policy on subscriptions."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tokenferry.accounts import CONFIGURATION, ENVIRONMENT, Accounts
from tokenferry.credentials import Credential
from tokenferry.errors import NeedsUnlock, PolicyRefused, TokenferryError, UnknownProvider, UsageError
from tokenferry.providers import Provider
from tokenferry.settings import PolicySettings
from tokenferry.stores import FETCHED, Account, Document

if TYPE_CHECKING:
    from tokenferry.state import ClientKey  # brings SQLite, which few things here need

OWNER_LABEL: Final = "owner"
OWNER: Final = "me"
_CLAUDE_CODE: Final = "claude-code"


class Rules(Struct, frozen=True):
    """The declared providers and `[policy]`, as one value that is replaced whole."""

    providers: Mapping[str, Provider]
    policy: PolicySettings

    def provider(self, name: str) -> Provider:
        """Raises `UnknownProvider`."""
        if name not in self.providers:
            raise UnknownProvider(
                f"there is no provider {name!r}; known: {', '.join(self.providers)}; declare it under [[providers]] in "
                "config.toml"
            )
        return self.providers[name]

    def default_provider(
        self, accounts: Iterable[Account], *, for_good: bool = False, environment: bool = True
    ) -> str | None:
        """Return the provider of the oldest account that may serve, or None.

        If policy refuses all accounts, it is the first one's, so that requests get that reason, but never `for_good`,
        to
        be recorded. Accounts of the environment come last. A provider whose models' names have slashes doesn't replace
        an older one that is named before its models.
        """
        accounts = list(accounts)
        named = min((_age(account) for account in accounts if self._serves_by_name(account)), default=None)
        able = [
            account
            for account in accounts
            if (provider := self.providers.get(account.provider)) is not None
            and provider.is_served
            and (provider.accounts is None or account.name in provider.accounts)
            and (environment or account.store != ENVIRONMENT)
            and not (for_good and self._refuses(account, provider))
            and not (provider.slash_names and named is not None and named < _age(account))
        ]
        able.sort(key=lambda account: (self._refuses(account, self.providers[account.provider]), *_age(account)))
        return able[0].provider if able else None

    def _serves_by_name(self, account: Account) -> bool:
        """Whether its provider serves by name, and never becomes the default one by itself."""
        provider = self.providers.get(account.provider)
        return provider is not None and provider.serves_mapped and not provider.is_served

    def _refuses(self, account: Account, provider: Provider) -> bool:
        """Whether policy refuses to serve an account, as far as its kind and provider show."""
        if self.policy.subscriptions != "claude-code-only":
            return False
        is_claude_codes = account.store == _CLAUDE_CODE and not provider.is_local
        return is_claude_codes or provider.may_bill_subscription(account.kind)

    def provider_of(self, account: Account) -> Provider:
        """Raises `UnknownProvider`."""
        try:
            return self.providers[account.provider]
        except KeyError:
            raise UnknownProvider(
                f"account {account.name!r} belongs to provider {account.provider!r}, which is not declared; "
                f"known: {', '.join(self.providers)}; declare it under [[providers]] in config.toml"
            ) from None

    def bills_subscription(self, account: Account, credential: Credential) -> bool:
        """Whether the account's use is billed to a Claude subscription. Raises `UnknownProvider`.

        Claude Code's own login always is, except at a provider on this machine.
        """
        provider = self.provider_of(account)
        is_claude_codes = account.store == _CLAUDE_CODE and not provider.is_local
        return is_claude_codes or provider.bills_subscription(credential)

    def check_policy(self, document: Document) -> None:
        """Raise `PolicyRefused` unless the credential may be handed to others than Claude Code; `UnknownProvider`."""
        is_billed = self.bills_subscription(document.account, document.credential)
        if self.policy.subscriptions == "claude-code-only" and is_billed:
            raise PolicyRefused(
                f"account {document.account.name!r} is billed to a Claude subscription, which tokenferry hands to "
                "Claude Code alone; if it is yours alone and you read the vendor's terms, say so with: "
                'tokenferry policy set own-use; or set subscriptions = "own-use" under [policy] in config.toml; API '
                "keys and Console logins work without that"
            )

    def check_keys(self, keys: "Iterable[ClientKey]", book: Accounts, now: float) -> None:
        """Raise `PolicyRefused` if under `own-use` another person's key could be served by a subscription.

        Invalid keys (revoked, expired, damaged) are ignored.
        """
        if self.policy.subscriptions != "own-use":
            return
        live = [key for key in keys if key.is_live(now)]
        if any(map(is_foreign, live)):
            billed = self._billed(book)
            for key in live:
                _check_key(key, billed)

    def _billed(self, book: Accounts) -> dict[str, str]:
        """Return the accounts that are or may be billed to a subscription, with their providers."""
        found: dict[str, str] = {}
        for account in book.listing().accounts:
            try:
                is_billed = self.bills_subscription(account, book.read(account.name).credential)
            except NeedsUnlock:
                provider = self.providers.get(account.provider)
                is_billed = account.kind != "api-key" or (provider is not None and provider.subscription)
            except TokenferryError:
                continue  # it serves no client
            if is_billed:
                found[account.name] = account.provider
        return found


def _age(account: Account) -> tuple[bool, bool, int, str]:
    """Sort by age: the oldest first, then the configuration's accounts, then those of the environment."""
    is_declared = account.store in {CONFIGURATION, *FETCHED}
    return account.store == ENVIRONMENT, is_declared, account.created_at, account.name


def is_foreign(key: "ClientKey") -> bool:
    """Whether a client key is another person's, by its label `owner`; `me` is the gateway's operator."""
    return key.labels.get(OWNER_LABEL, OWNER) != OWNER


def _check_key(key: "ClientKey", billed: Mapping[str, str]) -> None:
    """Raise `PolicyRefused` if another person's key could be served by the operator's subscription.

    `billed` are the accounts billed to one, with their providers. A key that isn't limited to accounts could be served
    by one added later.
    """
    if key.role != "client" or not is_foreign(key):
        return
    owner, rights = key.labels[OWNER_LABEL], key.rights
    if not (rights.accounts or rights.pin):
        reason = "may use every account"
    else:
        allowed = [name for name, provider in billed.items() if rights.allows_account(name, provider)]
        if not allowed:
            return
        reason = f"may use {' and '.join(allowed)}, which is billed to a Claude subscription"
    raise PolicyRefused(
        f"client key {key.name} is {owner}'s and {reason}, and under the policy own-use a subscription is used by its "
        f"owner alone; limit the key with: tokenferry key set {key.name} --account NAME; or revoke it; or first: "
        "tokenferry policy set claude-code-only"
    )


def check_attached(provider: Provider, document: Document) -> None:
    """Raise `UsageError` if Claude Code's login is given to another provider, to whose host it would be sent."""
    if document.account.store == _CLAUDE_CODE and not provider.suits_claude_code(document.credential):
        raise UsageError(
            f"Claude Code's login is billed to a Claude subscription, and provider {provider.name!r} is for other "
            "credentials; leave --provider out"
        )
