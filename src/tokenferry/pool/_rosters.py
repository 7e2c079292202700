import sys
from collections.abc import Iterable
from typing import Final

from tokenferry.pool._account import AccountGroup, PoolAccount
from tokenferry.providers import Provider
from tokenferry.stores import Account

_FIRST: Final = -sys.maxsize


def account_group(provider: Provider, accounts: Iterable[Account]) -> AccountGroup:
    """The accounts of a provider as a pool takes them, in their order; those of others are left out."""
    own = {account.name: account for account in accounts if _is_of(provider, account)}
    names = own if provider.accounts is None else [name for name in provider.accounts if name in own]
    members = tuple(_member(provider, own[name], is_listed=provider.accounts is not None) for name in names)
    return AccountGroup(provider.name, members, provider.strategy)


def _is_of(provider: Provider, account: Account) -> bool:
    """Tell whether an account is this provider's, or is lent to it by another one at the same vendor's."""
    if account.provider == provider.name:
        return True
    is_listed = provider.accounts is not None and account.name in provider.accounts
    return is_listed and account.provider == provider.provider_type and provider.is_at_vendor


def _member(provider: Provider, account: Account, *, is_listed: bool) -> PoolAccount:
    is_subscription = provider.subscription or account.kind == "setup-token" or account.owner == "claude-code"
    return PoolAccount(
        account.name,
        provider.name,
        account.kind,
        # The account in use goes before any order, and the provider's list is an order of its own.
        _FIRST if account.in_use else 0 if is_listed else account.priority,
        bills_subscription=is_subscription,
        has_usage_url=provider.usage_url is not None and account.kind == "oauth",
        is_paused=account.paused,
    )
