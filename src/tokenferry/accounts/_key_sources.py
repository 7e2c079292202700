"""The accounts of the configuration whose key is fetched, and their sources."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tokenferry.accounts._google_key import GoogleKeySettings
from tokenferry.accounts._key_command import KeyCommandSettings
from tokenferry.accounts._key_source import KeySource
from tokenferry.providers import Provider
from tokenferry.settings import AccountSettings

KeySourceSettings: TypeAlias = KeyCommandSettings | GoogleKeySettings


def key_sources_of(providers: Iterable[Provider], accounts: Mapping[str, AccountSettings]) -> list[KeySourceSettings]:
    """Return the key sources in the configuration: of providers, for an account of that name, and of accounts."""
    found: list[KeySourceSettings] = []
    for one in providers:
        if one.command:
            found.append(KeyCommandSettings(one.key_account, one.name, one.command, one.command_ttl))
        elif one.google_credentials is not None:
            found.append(GoogleKeySettings(one.key_account, one.name, one.google_credentials))
    return [
        *found,
        *(
            KeyCommandSettings(name, one.provider, one.command, one.command_ttl)
            for name, one in accounts.items()
            if one.provider is not None and one.command
        ),
    ]


def key_sources(
    wanted: Iterable[KeySourceSettings], present: Mapping[str, KeySource], now: Callable[[], float]
) -> dict[str, KeySource]:
    """Return the sources by account, reusing present ones with unchanged settings."""
    return {
        one.account: known
        if (known := present.get(one.account)) is not None and known.settings == one
        else one.source(now)
        for one in wanted
    }
