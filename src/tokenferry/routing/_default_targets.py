"""Which providers and accounts serve a model that nothing maps: `[router]` and a key's rights decide."""

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
"""Why only models that name a provider are served: no provider is one that may be the default."""

_UNAVAILABLE: Final = 503
_KIND: Final = "api_error"


class DefaultTargets(Struct, frozen=True):
    """The providers with their accounts that may serve, in order, and the rule that chose them."""

    groups: tuple[AccountGroup, ...]
    rule: str = "it is the default provider"
    pinned: str | None = None
    """The only account that may."""


def default_targets(
    settings: RouterSettings,
    providers: Mapping[str, Provider],
    accounts: Sequence[Account],
    default_provider: str | None,
) -> DefaultTargets | NoRoute:
    """Choose by configuration and the default provider alone. A `NoRoute` says what is missing and how to add it."""
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
    """The same for a key with rights: among what it may use, and a refusal names nothing else.

    Its pin goes before `[router]`; its other rights only take away from what that allows. Where `[router]` says
    nothing, a key that may not use the default provider goes to those that it names, in its order.
    """
    rights = key.rights
    if rights.pin is not None:
        settings = replace(settings, account=rights.pin, providers=())
    served = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
    mine = [account for account in accounts if rights.names_account(account.name)]
    if mine and (settings.account is None or rights.names_account(settings.account)):
        found = default_targets(settings, served, mine, default_provider)
        if isinstance(found, DefaultTargets):
            return found if rights.pin is None else replace(found, rule="the client key is pinned to the account")
        if settings.account is None and not settings.providers:
            named = _groups(_named_by(key, served, mine), served, mine)
            if named:
                return DefaultTargets(named, "the client key names it")
    # What it says of others is not for the key's holder.
    return no_account(f"no account that client key {key.name} may use serves here; see: tokenferry key show {key.name}")


def _named_by(key: ClientKey, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Iterable[str]:
    """The providers that a key's rights name, if only by their accounts."""
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
    """Those of these providers that have accounts which may serve."""
    served = (provider for name in names if (provider := providers.get(name)) is not None and provider.serves_mapped)
    found = (group_for(provider, accounts) for provider in served)
    return tuple(group for group in found if group is not None)


def group_for(provider: Provider | None, accounts: Sequence[Account]) -> AccountGroup | None:
    """A provider's accounts that may serve; None where there are none."""
    if provider is None or not provider.serves_mapped:
        return None
    group = account_group(provider, accounts)
    return group if group.accounts else None


def no_account(message: str) -> NoRoute:
    return NoRoute(_UNAVAILABLE, message, "no_account", _KIND)


def add_command(name: str, providers: Mapping[str, Provider]) -> str:
    """The command that gives a provider an account that it uses: one that it lists, if it lists any."""
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
    """Why the default provider serves nothing. Another provider is never proposed in its place."""
    if name is None and not accounts:
        return no_account("there is no account yet; add one with: tokenferry account add NAME --provider anthropic")
    if name is None:
        return _none_by_default(settings, providers, accounts)
    if not name:
        return no_account("which provider is the default one can't be read; see: tokenferry doctor")
    provider = providers.get(name)
    if provider is None or not provider.serves_mapped:
        return no_account(f"the default provider {name} {not_served(provider)}; correct [[providers]] in config.toml")
    if provider.accounts is not None and any(one.provider == name for one in accounts):
        return no_account(
            f"the default provider {name} lists none of its accounts; correct accounts under [[providers]] {name} in "
            f"config.toml, or add what it lists with: {add_command(name, providers)}"
        )
    return no_account(f"the default provider {name} has no account; add one with: {add_command(name, providers)}")


def _none_of(names: Sequence[str], providers: Mapping[str, Provider]) -> NoRoute:
    """Why none of `[router] providers` serves."""
    reasons = []
    for name in names:
        provider = providers.get(name)
        reasons.append(f"{name} {'has no account' if provider and provider.serves_mapped else not_served(provider)}")
    served = next((name for name in names if (one := providers.get(name)) is not None and one.serves_mapped), None)
    cure = (
        "correct [[providers]] in config.toml" if served is None else f"add one with: {add_command(served, providers)}"
    )
    return no_account(f"none of [router] providers may serve: {', '.join(reasons)}; {cure}")


def _none_by_default(
    settings: RouterSettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> NoRoute:
    """Why none of the accounts makes its provider the default one."""
    named = next((one.provider for one in accounts if _serves_by_name(one, providers)), None)
    if named is not None:
        ask = f"ask for {named}/MODEL, or " if settings.provider_prefix else ""
        how = f"{ask}map a model with: tokenferry model add NAME {shlex.quote(named)}/MODEL"
        return NoRoute(_UNAVAILABLE, f"no account serves a model that names no provider; {how}", NO_DEFAULT, _KIND)
    found = ", ".join(f"{one.name} ({_why_not(one, providers.get(one.provider))})" for one in accounts)
    return no_account(f"no account may serve here: {found}; correct config.toml, or see: tokenferry account list")


def _serves_by_name(account: Account, providers: Mapping[str, Provider]) -> bool:
    """Whether it serves, but at a provider that is never the default one by itself."""
    provider = providers.get(account.provider)
    return provider is not None and not provider.is_served and group_for(provider, [account]) is not None


def _why_not(account: Account, provider: Provider | None) -> str:
    if provider is None or not provider.serves_mapped:
        return f"provider {account.provider} {not_served(provider)}"
    return f"not among the accounts of provider {provider.name}"


def not_served(provider: Provider | None) -> str:
    """Why a provider serves nothing."""
    if provider is None:
        return "is not declared"
    if not provider.enabled:
        return "is not enabled"
    return "has no base_url"
