"""Which provider and accounts serve a request, when nothing but `[gateway]` routes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tokenferry.gateway._answers import Refusal
from tokenferry.providers import Provider
from tokenferry.settings import GatewaySettings
from tokenferry.stores import Account


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider, those of its accounts that may serve, best first, and by which rule."""

    provider: Provider
    accounts: tuple[Account, ...]
    rule: str = "it is the one enabled provider that has accounts"


def choose(settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Choice:
    """Choose by configuration alone. Raises `Refusal` that says what is missing and how to add it."""
    if settings.account is not None:
        return _pinned(settings.account, providers, accounts)
    names = settings.providers or tuple(providers)
    usable = [choice for name in names if (choice := _choice(providers.get(name), accounts))]
    if not usable:
        raise _no_account(settings, providers, accounts)
    if len(usable) > 1 and not settings.providers:
        found = ", ".join(choice.provider.name for choice in usable)
        raise _refusal(
            f"several providers have accounts ({found}); say in which order they serve: "
            "set providers = [...] under [gateway] in config.toml"
        )
    if settings.providers:
        return replace(usable[0], rule="it is the first in [gateway] providers that has accounts")
    return usable[0]


def _pinned(name: str, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Choice:
    account = next((one for one in accounts if one.name == name), None)
    if account is None:
        known = ", ".join(one.name for one in accounts) or "none"
        raise _refusal(
            f"[gateway] account names {name!r}, which does not exist (accounts: {known}); "
            f"add it with: tokenferry accounts add {name} --provider anthropic"
        )
    choice = _choice(providers.get(account.provider), [account])
    if choice is None:
        raise _refusal(
            f"[gateway] account names {name!r}, but provider {account.provider!r} is not declared, not enabled, or "
            f"does not list it; mend [[providers]] {account.provider} in config.toml"
        )
    return replace(choice, rule="[gateway] account names the account")


def _choice(provider: Provider | None, accounts: Sequence[Account]) -> Choice | None:
    if provider is None or not provider.is_served:
        return None
    own = {account.name: account for account in accounts if account.provider == provider.name}
    names = own if provider.accounts is None else provider.accounts
    chosen = tuple(own[name] for name in names if name in own)
    return Choice(provider, chosen) if chosen else None


def _no_account(settings: GatewaySettings, providers: Mapping[str, Provider], accounts: Sequence[Account]) -> Refusal:
    if not accounts:
        return _refusal("there is no account yet; add one with: tokenferry accounts add NAME --provider anthropic")
    found = ", ".join(f"{account.name} ({_why_not(account, settings, providers)})" for account in accounts)
    return _refusal(f"no account may serve here: {found}; mend config.toml, or see: tokenferry accounts list")


def _why_not(account: Account, settings: GatewaySettings, providers: Mapping[str, Provider]) -> str:
    provider = providers.get(account.provider)
    if provider is None:
        return f"provider {account.provider} is not declared"
    if not provider.enabled:
        return f"provider {provider.name} is not enabled"
    if not provider.is_served:
        return f"provider {provider.name} speaks {provider.wire_format}'s format, which is not translated yet"
    if settings.providers and provider.name not in settings.providers:
        return f"provider {provider.name} is not in [gateway] providers"
    return f"not among the accounts of provider {provider.name}"


def _refusal(message: str) -> Refusal:
    return Refusal(503, "api_error", message, cause="no_account")
