"""Attaching an account: shared by `account add`, `import` and `claude-code attach`."""

import os
import time
from pathlib import Path
from typing import Final

from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.cli._home import know, what_serves
from tokenferry.cli._output import note, say
from tokenferry.credentials import Credential
from tokenferry.errors import UnknownProvider
from tokenferry.providers import Provider
from tokenferry.settings import Home
from tokenferry.stores import Account

_CLAUDE_MAX: Final = "claude-max"


def attach_claude_code(broker: Broker, name: str, provider: str | None) -> None:
    """Attach Claude Code's login as an account; the login stays where it is. Raises what `Broker.attach` does."""
    from tokenferry.claude_code import ClaudeCodeHome, claude_code_account  # noqa: PLC0415  # few have it

    place = ClaudeCodeHome.from_environment(os.environ, Path.home())
    attach(broker, claude_code_account(name, provider or _CLAUDE_MAX, place, created_at=int(time.time())))


def attach(broker: Broker, account: Account) -> None:
    known_provider(broker, account.provider)
    credential = broker.attach(account)
    know(credential)
    note_account("account.attach", account, credential)
    say(
        f"attached account {account.name} to the login of {account.store} (fingerprint {credential.secret.fingerprint})"
    )
    tell_policy(broker, account, credential)
    say(what_serves(account.name, broker))


def note_account(action: str, account: Account, credential: Credential) -> None:
    note_change(
        Home.from_environment(),
        action,
        account.name,
        provider=account.provider,
        kind=account.kind,
        fingerprint=credential.secret.fingerprint,
    )


def known_provider(broker: Broker, provider: str) -> Provider:
    try:
        return broker.providers[provider]
    except KeyError:
        raise UnknownProvider.among("provider", provider, broker.providers, "tokenferry provider list") from None


def tell_policy(broker: Broker, account: Account, credential: Credential) -> None:
    if broker.policy.subscriptions == "claude-code-only" and broker.bills_subscription(account, credential):
        note(
            "it is billed to a Claude subscription, so it is stored, but for Claude Code alone until "
            "you state that it is yours alone, with: tokenferry policy set own-use; or config.toml says so under "
            "[policy]"
        )
