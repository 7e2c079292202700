"""Attach a profile of the official SDKs as an account."""

import os
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tokenferry.broker import Broker
from tokenferry.cli._attach import known_provider
from tokenferry.errors import UsageError
from tokenferry.stores import Account
from tokenferry.stores.anthropic_profiles import (
    SDK_URL,
    AnthropicProfileStore,
    ProfileConfig,
    ProfileFolder,
    check_profile_name,
    profile_account,
)

_CONSOLE: Final = "console"
_UNKNOWN_KIND: Final = "anthropic"  # a token of an unknown kind counts as a subscription's here


def account_of_profile(broker: Broker, name: str, provider: str | None, profile: str | None) -> Account:
    """The account for a profile, by default the active one.

    Without a `provider`, a profile with a login or federation of its own belongs to the Console. Raises `NeedsLogin` if
    there is no such profile, `UsageError` if it is one that tokenferry published, or its requests go to another host
    than the provider's.
    """
    folder = ProfileFolder.from_environment(os.environ, Path.home())
    profile = check_profile_name(folder.active(os.environ) if profile is None else profile)
    unread = profile_account(name, "", folder, profile, created_at=0)
    config = AnthropicProfileStore.of(unread, folder.path).config()
    if broker.publisher.is_published(folder, profile):
        raise UsageError(
            f"profile {profile!r} was published by tokenferry from an account; use that account instead of attaching it"
        )
    account = profile_account(
        name,
        provider or _provider_of(config),
        folder,
        profile,
        created_at=int(time.time()),
        base_url=config.base_url or SDK_URL,
    )
    _check_host(broker, account, config)
    return account


def _provider_of(config: ProfileConfig) -> str:
    return _CONSOLE if config.client_id or config.type == "oidc_federation" else _UNKNOWN_KIND


def _check_host(broker: Broker, account: Account, config: ProfileConfig) -> None:
    """Raise `UsageError` unless requests with this account's token go to the host that the profile names."""
    known = known_provider(broker, account.provider)
    wanted = _origin(config.base_url or SDK_URL)
    if _origin(known.base_url) != wanted:
        fitting = [one.name for one in broker.providers.values() if _origin(one.base_url) == wanted]
        hint = f"one of: {', '.join(fitting)}" if fitting else "one with that base_url, declared in config.toml"
        raise UsageError(
            f"the token of this profile is for {wanted}, and provider {account.provider!r} is another host; "
            f"name with --provider {hint}"
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
