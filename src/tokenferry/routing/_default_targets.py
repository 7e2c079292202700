"""Which providers and accounts serve a model that nothing maps: `[gateway]` and a key's rights decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenferry.pool import Roster, roster_of
from tokenferry.providers import Provider
from tokenferry.routing._router import NoRoute
from tokenferry.settings import GatewaySettings
from tokenferry.state import ClientKey
from tokenferry.stores import Account

_UNAVAILABLE: Final = 503
_KIND: Final = "api_error"


@dataclass(frozen=True, slots=True)
class DefaultTargets:
    """The providers with their accounts that may serve, in order, and the rule that chose them."""

    rosters: tuple[Roster, ...]
    rule: str = "it is the one enabled provider that has accounts"
    pinned: str | None = None
    """The only account that may."""


def default_targets(
    settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> DefaultTargets | NoRoute:
    """Choose by configuration alone. A `NoRoute` says what is missing and how to add it."""
    if settings.account is not None:
        return _pinned(settings.account, settings, providers, accounts)
    names = settings.providers or tuple(providers)
    usable = tuple(roster for name in names if (roster := roster_for(providers.get(name), accounts)) is not None)
    if not usable:
        return _nothing_usable(settings, providers, accounts)
    if settings.providers:
        return DefaultTargets(usable, "they are those of [gateway] providers that have accounts, in its order")
    if len(usable) > 1:
        found = ", ".join(roster.provider for roster in usable)
        return no_account(
            f"several providers have accounts ({found}); say in which order they serve: "
            "set providers = [...] under [gateway] in config.toml"
        )
    return DefaultTargets(usable)


def default_targets_for(
    key: ClientKey, settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> DefaultTargets | NoRoute:
    """The same for a key with rights: among what it may use, and a refusal names nothing else.

    Its pin goes before `[gateway]`; its other rights only take away from what that allows.
    """
    rights = key.rights
    if rights.pin is not None:
        settings = replace(settings, account=rights.pin, providers=())
    served = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
    mine = [account for account in accounts if rights.names_account(account.name)]
    if mine and (settings.account is None or rights.names_account(settings.account)):
        found = default_targets(settings, served, mine)
        if isinstance(found, DefaultTargets):
            return found if rights.pin is None else replace(found, rule="the client key is pinned to the account")
    # What it says of others is not for the key's holder.
    return no_account(f"no account that client key {key.name} may use serves here; see: tokenferry key show {key.name}")


def roster_for(provider: Provider | None, accounts: Sequence[Account]) -> Roster | None:
    """A provider's accounts that may serve; None where there are none."""
    if provider is None or not provider.is_served:
        return None
    roster = roster_of(provider, accounts)
    return roster if roster.members else None


def no_account(message: str) -> NoRoute:
    return NoRoute(_UNAVAILABLE, message, "no_account", _KIND)


def _pinned(
    name: str, settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> DefaultTargets | NoRoute:
    account = next((one for one in accounts if one.name == name), None)
    if account is None:
        known = ", ".join(one.name for one in accounts) or "none"
        return no_account(
            f"[gateway] account names {name!r}, which does not exist (accounts: {known}); "
            f"add it with: tokenferry accounts add {name} --provider anthropic"
        )
    names = dict.fromkeys((account.provider, *(settings.providers or providers)))
    rosters = [roster_for(providers.get(one), accounts) for one in names]
    usable = tuple(roster for roster in rosters if roster is not None and name in roster.by_name)
    if not usable:
        return no_account(
            f"[gateway] account names {name!r}, but provider {account.provider!r} is not declared, not enabled, or "
            f"does not list it; correct [[providers]] {account.provider} in config.toml"
        )
    return DefaultTargets(usable[:1], "[gateway] account names the account", name)


def _nothing_usable(
    settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> NoRoute:
    if not accounts:
        return no_account("there is no account yet; add one with: tokenferry accounts add NAME --provider anthropic")
    found = ", ".join(f"{account.name} ({_why_not(account, settings, providers)})" for account in accounts)
    return no_account(f"no account may serve here: {found}; correct config.toml, or see: tokenferry accounts list")


def _why_not(account: Account, settings: GatewaySettings, providers: Mapping[str, Provider]) -> str:
    provider = providers.get(account.provider)
    if provider is None:
        return f"provider {account.provider} is not declared"
    if not provider.enabled:
        return f"provider {provider.name} is not enabled"
    if not provider.is_served:
        return f"provider {provider.name} speaks {provider.wire_format}, which isn't relayed"
    if settings.providers and provider.name not in settings.providers:
        return f"provider {provider.name} is not in [gateway] providers"
    return f"not among the accounts of provider {provider.name}"
