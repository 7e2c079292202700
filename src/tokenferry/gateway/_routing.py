"""Which providers and accounts serve a request, when nothing but `[gateway]` routes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tokenferry.gateway._answers import Refusal
from tokenferry.pool import Roster, roster_of
from tokenferry.providers import Provider
from tokenferry.settings import GatewaySettings
from tokenferry.state import ClientKey
from tokenferry.stores import Account


@dataclass(frozen=True, slots=True)
class Lineup:
    """The providers with their accounts that may serve, in order, and by which rule."""

    rosters: tuple[Roster, ...]
    rule: str = "it is the one enabled provider that has accounts"
    pinned: str | None = None
    """The only account that may."""


class _NoAccount(Refusal):
    def __init__(self, message: str) -> None:
        super().__init__(503, "api_error", message, cause="no_account")


def line_up(settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Lineup:
    """Choose by configuration alone. Raises `Refusal` that says what is missing and how to add it."""
    if settings.account is not None:
        return _pinned(settings.account, settings, providers, accounts)
    names = settings.providers or tuple(providers)
    usable = tuple(roster for name in names if (roster := roster_for(providers.get(name), accounts)) is not None)
    if not usable:
        raise _no_account(settings, providers, accounts)
    if settings.providers:
        return Lineup(usable, "they are those of [gateway] providers that have accounts, in its order")
    if len(usable) > 1:
        found = ", ".join(roster.provider for roster in usable)
        raise Refusal(
            503,
            "api_error",
            f"several providers have accounts ({found}); say in which order they serve: "
            "set providers = [...] under [gateway] in config.toml",
            cause="no_account",
        )
    return Lineup(usable)


def line_up_for(
    key: ClientKey, settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> Lineup:
    """The same for a key with rights: among what it may use, and nothing else is told. Raises `Refusal`.

    Its pin goes before `[gateway]`; its other rights only take away from what that allows.
    """
    rights = key.rights
    if rights.pin is not None:
        settings = replace(settings, account=rights.pin, providers=())
    served = {name: provider for name, provider in providers.items() if rights.allows_provider(name)}
    mine = [account for account in accounts if rights.names_account(account.name)]
    try:
        if mine and (settings.account is None or rights.names_account(settings.account)):
            lineup = line_up(settings, served, mine)
            return lineup if rights.pin is None else replace(lineup, rule="the client key is pinned to the account")
    except _NoAccount:
        pass  # what it says may be about others
    raise _NoAccount(f"no account that client key {key.name} may use serves here; see: tokenferry key show {key.name}")


def _pinned(
    name: str, settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> Lineup:
    account = next((one for one in accounts if one.name == name), None)
    if account is None:
        known = ", ".join(one.name for one in accounts) or "none"
        raise _NoAccount(
            f"[gateway] account names {name!r}, which does not exist (accounts: {known}); "
            f"add it with: tokenferry accounts add {name} --provider anthropic"
        )
    names = dict.fromkeys((account.provider, *(settings.providers or providers)))
    rosters = [roster_for(providers.get(one), accounts) for one in names]
    usable = tuple(roster for roster in rosters if roster is not None and name in roster.by_name)
    if not usable:
        raise _NoAccount(
            f"[gateway] account names {name!r}, but provider {account.provider!r} is not declared, not enabled, or "
            f"does not list it; mend [[providers]] {account.provider} in config.toml"
        )
    return Lineup(usable[:1], "[gateway] account names the account", name)


def roster_for(provider: Provider | None, accounts: Sequence[Account]) -> Roster | None:
    """A provider's accounts that may serve; None where there are none."""
    if provider is None or not provider.is_served:
        return None
    roster = roster_of(provider, accounts)
    return roster if roster.members else None


def _no_account(
    settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]
) -> _NoAccount:
    if not accounts:
        return _NoAccount("there is no account yet; add one with: tokenferry accounts add NAME --provider anthropic")
    found = ", ".join(f"{account.name} ({_why_not(account, settings, providers)})" for account in accounts)
    return _NoAccount(f"no account may serve here: {found}; mend config.toml, or see: tokenferry accounts list")


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
