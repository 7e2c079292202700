"""The providers and accounts for a model without a mapping, by `[router]` and the rights of a key."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.pool import AccountGroup, account_group
from tokenferry.providers import Provider
from tokenferry.routing._router import NoRoute
from tokenferry.settings import RouterSettings
from tokenferry.state import ClientKey
from tokenferry.stores import Account

NO_DEFAULT: Final = "no_default_provider"
"""The cause when no provider may be the default, so that only models with a provider's name are served."""

_UNAVAILABLE: Final = 503
_KIND: Final = "api_error"


class DefaultTargets(Struct, frozen=True):
    """The providers with accounts that may serve, in order, and the rule that chose them."""

    groups: tuple[AccountGroup, ...]
    rule: str = "it is the default provider"
    pinned: str | None = None
    """The only account that may serve."""


def default_targets(
    settings: RouterSettings,
    providers: Mapping[str, Provider],
    accounts: Sequence[Account],
    default_provider: str | None,
) -> DefaultTargets | NoRoute:
    """Choose by the configuration and the default provider. A `NoRoute` says what is missing and how to add it."""
    if settings.account is not None:
        return _pinned(settings.account, settings, providers, accounts, default_provider)
    if settings.providers:
        usable = _groups(settings.providers, providers, accounts)
        if usable:
            return DefaultTargets(usable, "they are those of [router] providers that have accounts, in its order")
        return _none_of(settings.providers, providers)
    usable = _groups((default_provider,), providers, accounts) if default_provider else ()
    return DefaultTargets(usable) if usable else _no_default(settings, providers, accounts, default_provider)


def default_targets_for(
    key: ClientKey,
    settings: RouterSettings,
    providers: Mapping[str, Provider],
    accounts: Sequence[Account],
    default_provider: str | None,
) -> DefaultTargets | NoRoute:
    """Choose for a key with rights, only among what it may use. A refusal names nothing else.

    The key's pin overrides `[router]`; its other rights only restrict it. Without settings in `[router]`, a key that
    may not use the default provider gets the providers that its rights name, in their order.
    """
    rights = key.rights
    if rights.pin is not None:
        settings = replace(settings, account=rights.pin, providers=())
    served = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
    mine = [account for account in accounts if rights.names_account(account.name)]
    found = default_targets(settings, served, mine, default_provider)
    if isinstance(found, DefaultTargets):
        return found if rights.pin is None else replace(found, rule="the client key is pinned to the account")
    if settings.account is None and not settings.providers:
        named = _groups(_named_by(key, served, mine), served, mine)
        if named:
            return DefaultTargets(named, "the client key names it")
    # The key's holder must not learn of other accounts.
    return no_account(f"no account that client key {key.name} may use can serve; see: tokenferry key show {key.name}")


def _named_by(key: ClientKey, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Iterable[str]:
    """Give the providers that a key's rights name, directly or by their accounts."""
    rights = key.rights
    if rights.providers or not rights.accounts:
        return rights.providers
    by_name = {account.name: account for account in accounts}
    found: dict[str, None] = {}
    for name in rights.accounts:
        if name in by_name:
            names = (by_name[name].provider, *providers)
            found |= dict.fromkeys(one.provider for one in _groups(names, providers, [by_name[name]])[:1])
    return found


def _groups(
    names: Iterable[str], providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> tuple[AccountGroup, ...]:
    """Give the groups of the providers that have accounts."""
    served = (provider for name in names if (provider := providers.get(name)) is not None and provider.serves_mapped)
    found = (group_for(provider, accounts) for provider in served)
    return tuple(group for group in found if group is not None)


def group_for(provider: Provider | None, accounts: Sequence[Account]) -> AccountGroup | None:
    """Give a provider's accounts as a group; None without any."""
    if provider is None or not provider.serves_mapped:
        return None
    group = account_group(provider, accounts)
    return group if group.accounts else None


def no_account(message: str) -> NoRoute:
    return NoRoute(_UNAVAILABLE, message, "no_account", _KIND)


def add_command(name: str, providers: Mapping[str, Provider]) -> str:
    """Give the command that adds an account to a provider: one that it lists, if it lists any."""
    provider = providers.get(name)
    listed = next(iter(provider.accounts or ()), "NAME") if provider else "NAME"
    return f"tokenferry account add {shlex.quote(listed)} --provider {shlex.quote(name)}"


def _pinned(
    name: str,
    settings: RouterSettings,
    providers: Mapping[str, Provider],
    accounts: Sequence[Account],
    default_provider: str | None,
) -> DefaultTargets | NoRoute:
    account = next((one for one in accounts if one.name == name), None)
    if account is None:
        known = ", ".join(one.name for one in accounts) or "none"
        return no_account(
            f"[router] account names {name!r}, which does not exist (accounts: {known}); "
            f"add it with: tokenferry account add {name} --provider {default_provider or 'PROVIDER'}"
        )
    usable = [
        group
        for group in _groups(dict.fromkeys((account.provider, *(settings.providers or providers))), providers, accounts)
        if name in group.by_name
    ]
    if not usable:
        return no_account(
            f"[router] account names {name!r}, but provider {account.provider!r} is not declared, not enabled, or "
            f"does not list it; correct [[providers]] {account.provider} in config.toml"
        )
    return DefaultTargets((usable[0],), "[router] account names the account", name)


def _no_default(
    settings: RouterSettings, providers: Mapping[str, Provider], accounts: Sequence[Account], name: str | None
) -> NoRoute:
    """Say why the default provider can't serve. No particular one is proposed in its place."""
    if name is None and not accounts:
        return no_account("there is no account yet; add one with: tokenferry account add NAME --provider anthropic")
    if name is None:
        return _none_by_default(settings, providers, accounts)
    if not name:
        return no_account("the default provider can't be read; see: tokenferry doctor")
    provider = providers.get(name)
    if provider is None or not provider.serves_mapped:
        return no_account(f"the default provider {name} {not_served(provider)}; correct [[providers]] in config.toml")
    if provider.accounts is not None and any(one.provider == name for one in accounts):
        return no_account(
            f"the default provider {name} lists none of its accounts; correct accounts under [[providers]] {name} in "
            f"config.toml, or add one that it lists with: {add_command(name, providers)}"
        )
    other = "; or make another provider the default with: tokenferry use NAME --default-provider" if accounts else ""
    return no_account(
        f"the default provider {name} has no account; add one with: {add_command(name, providers)}{other}"
    )


def _none_of(names: Sequence[str], providers: Mapping[str, Provider]) -> NoRoute:
    """Say why none of `[router] providers` can serve."""
    reasons = []
    for name in names:
        provider = providers.get(name)
        reasons.append(f"{name} {'has no account' if provider and provider.serves_mapped else not_served(provider)}")
    served = next((name for name in names if (one := providers.get(name)) is not None and one.serves_mapped), None)
    cure = (
        "correct [[providers]] in config.toml" if served is None else f"add one with: {add_command(served, providers)}"
    )
    return no_account(f"none of [router] providers can serve: {', '.join(reasons)}; {cure}")


def _none_by_default(
    settings: RouterSettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> NoRoute:
    """Say why no account's provider can be the default."""
    named = next((one.provider for one in accounts if _serves_by_name(one, providers)), None)
    if named is not None:
        ask = f"ask for {named}/MODEL, or " if settings.provider_prefix else ""
        how = f"{ask}map a model with: tokenferry model add NAME {shlex.quote(named)}/MODEL"
        return NoRoute(_UNAVAILABLE, f"no account serves a model without a provider's name; {how}", NO_DEFAULT, _KIND)
    found = ", ".join(f"{one.name} ({_why_not(one, providers.get(one.provider))})" for one in accounts)
    return no_account(f"no account can serve: {found}; correct config.toml, or see: tokenferry account list")


def _serves_by_name(account: Account, providers: Mapping[str, Provider]) -> bool:
    """Whether the account can serve, but its provider is never the default."""
    provider = providers.get(account.provider)
    return provider is not None and not provider.is_served and group_for(provider, [account]) is not None


def _why_not(account: Account, provider: Provider | None) -> str:
    if provider is None or not provider.serves_mapped:
        return f"provider {account.provider} {not_served(provider)}"
    return f"not among the accounts of provider {provider.name}"


def not_served(provider: Provider | None) -> str:
    """Say why a provider can't serve, as the end of a sentence."""
    if provider is None:
        return "is not declared"
    if not provider.enabled:
        return "is not enabled"
    return "has no base_url"
