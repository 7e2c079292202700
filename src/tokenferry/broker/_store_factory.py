"""Opens the stores of other programs that accounts are attached to, and what moves logins between stores."""

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenferry.accounts import machine_id
from tokenferry.errors import ConfigError
from tokenferry.providers import Provider
from tokenferry.settings import Home
from tokenferry.stores import Account, Store

if TYPE_CHECKING:
    from tokenferry.claude_code import ClaudeCodeStore
    from tokenferry.claude_code.moves import Mover

_CLAUDE_MAX: Final = "claude-max"


def open_attached(home: Home, account: Account) -> Store:
    """Open the store of an attached account. Raises `ConfigError` for an unknown store."""
    if account.store == "claude-code":
        from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeStore  # noqa: PLC0415  # few have it

        if folder := account.labels.get("config_dir"):
            place = ClaudeCodeHome.of_label(folder, Path.home())
        else:
            place = ClaudeCodeHome.from_environment(os.environ, Path.home())
        return ClaudeCodeStore.on_this_platform(account, place, home.locks, user=os.environ.get("USER", ""))
    if account.store == "anthropic-profile":
        from tokenferry.stores.anthropic_profiles import AnthropicProfileStore  # noqa: PLC0415  # see above

        return AnthropicProfileStore.of(account, home.locks)
    raise ConfigError(
        f"account {account.name!r} is in a store {account.store!r} that this version doesn't know; "
        f"remove it with: tokenferry account remove {account.name}"
    )


def open_mover(home: Home) -> "Mover":
    """Open what moves logins between this home and Claude Code's store."""
    from tokenferry.claude_code.moves import Mover  # noqa: PLC0415  # see above

    return Mover(home, partial(_open_claude_code, home), machine=machine_id())


def _open_claude_code(home: Home, account: Account) -> "ClaudeCodeStore":
    store = open_attached(home, account)
    assert account.store == "claude-code"
    return store  # type: ignore[return-value]  # checked above


def provider_beside(provider: Provider | None) -> str:
    """Return the provider of a login of Claude Code without an account, next to an account of this provider."""
    return provider.name if provider is not None and provider.subscription else _CLAUDE_MAX


class PendingMove:
    """The interrupted move between a home and Claude Code's store, if there is one: a `Moves`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def concerns(self, name: str) -> bool:
        return self._home.move_to_claude_code.exists() and open_mover(self._home).concerns(name)

    def recover(self, timeout: float) -> None:
        open_mover(self._home).recover(timeout)

    def held_off(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        return open_mover(self._home).held_off(timeout)
