"""What lies under a broker over a home: the stores that accounts are attached to, and what their changes show by."""

import contextlib
import logging
import os
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenferry.accounts import Sealing, machine_id
from tokenferry.errors import ConfigError, TokenferryError
from tokenferry.manifest import depend_on, doubt
from tokenferry.providers import Provider
from tokenferry.refresh import FileJournal
from tokenferry.settings import Home
from tokenferry.stores import Account, AttachedStore, FileStore, Store

if TYPE_CHECKING:
    from tokenferry.claude_code import ClaudeCodeStore
    from tokenferry.claude_code.moves import Mover

logger = logging.getLogger(__name__)

_CLAUDE_MAX: Final = "claude-max"
_ACTIVE: Final = ":active"  # no account's name
_DEFAULT_PROVIDER: Final = ":default-provider"  # as above
_SEAL: Final = ":seal"  # as above


def open_attached(home: Home, account: Account) -> Store:
    """Open the store that an attached account is stored in. Raises `ConfigError` for one that isn't known."""
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
        f"account {account.name!r} is stored in a store {account.store!r} that this version doesn't know; "
        f"remove it with: tokenferry account remove {account.name}"
    )


def open_mover(home: Home) -> "Mover":
    """What moves logins between this home and Claude Code's store."""
    from tokenferry.claude_code.moves import Mover  # noqa: PLC0415  # see above

    return Mover(home, partial(_open_claude_code, home), machine=machine_id())


def _open_claude_code(home: Home, account: Account) -> "ClaudeCodeStore":
    store = open_attached(home, account)
    assert account.store == "claude-code"
    return store  # type: ignore[return-value]  # that store it is


def provider_beside(provider: Provider | None) -> str:
    """The provider of a login of Claude Code that belongs to no account here, beside an account of this provider."""
    return provider.name if provider is not None and provider.subscription else _CLAUDE_MAX


def forget_cooldowns(home: Home | None, name: str) -> None:
    """Drop what was noted of an account that is no more: another one may get its name."""
    if home is None or not home.state.exists():
        return
    from tokenferry.state import State  # noqa: PLC0415  # SQLite, which few things here need

    try:
        with State(home.state) as state:
            for one in state.cooldowns.list():
                if (one.scope.kind, one.scope.name) == ("account", name):
                    state.cooldowns.clear(one.scope)
            state.organizations.forget(name)
    except TokenferryError as fault:
        logger.warning("the cooldowns of account %s are still on record: %s", name, fault)


def limited_accounts(home: Home | None, now: Callable[[], float]) -> frozenset[str]:
    """The accounts with a cooldown that holds for every model; none where the state can't be read."""
    if home is None:
        return frozenset()
    depend_on("cooldowns", home.state)
    if not home.state.exists():
        return frozenset()
    from tokenferry.state import State  # noqa: PLC0415  # SQLite, which few things here need

    try:
        with State(home.state) as state:
            found = [one for one in state.cooldowns.list() if not one.scope.family and not one.is_over(now())]
    except TokenferryError:
        doubt()
        return frozenset()
    return frozenset(one.scope.name for one in found if one.scope.kind == "account")


class PendingMove:
    """The move between a home and Claude Code's store that was cut short, if there is one: a `Moves`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def concerns(self, name: str) -> bool:
        return self._home.move_to_claude_code.exists() and open_mover(self._home).concerns(name)

    def recover(self, timeout: float) -> None:
        open_mover(self._home).recover(timeout)

    def held_off(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        return open_mover(self._home).held_off(timeout)


def open_store(home: Home) -> AttachedStore:
    """The accounts of this home, those among them that rest in other programs' stores."""
    return AttachedStore(FileStore(home), home.attached, partial(open_attached, home), moves=PendingMove(home))


def open_sealing(home: Home) -> Sealing:
    """What seals and unseals this home."""
    store = open_store(home)
    return Sealing(home, store.files, store, FileJournal(home.journal, seal=store.seal), PendingMove(home))


def stamps(store: Store, home: Home | None) -> dict[str, Hashable]:
    """The store's stamps, those of what else a listing shows, and what changes when a key was missed."""
    found = dict(store.stamps())
    if isinstance(store, FileStore | AttachedStore):
        found[_SEAL] = store.seal.try_again()
    if home is not None:
        for name, path in ((_ACTIVE, home.active), (_DEFAULT_PROVIDER, home.default_provider)):
            with contextlib.suppress(OSError):
                found[name] = path.stat().st_mtime_ns
    return found
