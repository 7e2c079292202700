"""Gives Claude Code one of our logins: by name, or the next one that isn't limited."""

import logging
import math
from datetime import datetime
from typing import TYPE_CHECKING

from tokenferry.broker._broker import Broker
from tokenferry.broker._default import default_broker
from tokenferry.broker._store_factory import open_mover, provider_beside
from tokenferry.credentials import OAuthToken, epoch_seconds
from tokenferry.errors import NeedsLogin, PolicyRefused, UsageError
from tokenferry.settings import Home
from tokenferry.stores import Attaching, FileLock

if TYPE_CHECKING:
    from tokenferry.claude_code.moves import Moved, MoveRecord

logger = logging.getLogger(__name__)


def use_for_claude_code(name: str, broker: Broker | None = None) -> "Moved":
    """Give the account's login to Claude Code; its present login returns to its own account.

    Raises what `Mover.move` raises, and `UsageError` for a login that Claude Code can't use.
    """
    broker = broker or default_broker()
    home = _home_of(broker)
    provider = None
    try:
        document = broker.book.read(name)
    except NeedsLogin:
        logger.debug("account %s: the login that was given to Claude Code is gone", name)
    else:
        provider = broker.provider_of(document.account)
        if isinstance(document.credential, OAuthToken) and not provider.suits_claude_code(document.credential):
            raise UsageError(
                f"account {name!r} is a login at {provider.name}, which Claude Code can't use as its own; give it to "
                f"it with: tokenferry run --account {name} -- claude"
            )
    broker.record_default_provider()
    moved = open_mover(home).move(name, provider_beside(provider))
    for one in filter(None, (moved.name, moved.home)):
        broker.publisher.follow(one)  # Claude Code may have renewed the returned login
    return moved


def interrupted_move(home: Home) -> "MoveRecord | None":
    """Return the interrupted move of a login to Claude Code, if there is one. Raises `CorruptFile`, `UnsafeFile`."""
    return open_mover(home).pending() if home.move_to_claude_code.exists() else None


def complete_move(home: Home, timeout: float) -> bool:
    """Complete an interrupted move; True if there was one that no process was working on.

    Waits at most `timeout` seconds for locks. Raises what `Mover.recover` raises.
    """
    is_under_way = FileLock(home.move_to_claude_code, home.locks).is_held()
    if is_under_way or not home.move_to_claude_code.exists():
        return False
    open_mover(home).recover(timeout)
    return True


def swap_to_next_available_account(reset_at: datetime | float | None = None, broker: Broker | None = None) -> str:
    """Mark Claude Code's account as limited, give it the next one, and return that account's e-mail address or name.

    `reset_at` is when the limit ends: a datetime (without a time zone it is local time) or seconds since 1970 UTC,
    rounded up to a whole second; None if unknown. `select_next_account_for_swap` chooses among the accounts in order.
    A login with less than 300 s left is renewed first. If another program switches the account while this call waits,
    nothing is moved twice.

    Raises `PolicyRefused`, `UsageError` for an invalid time, `UnknownAccount` for fewer than 2 accounts, `TryLater`
    when all are limited, `NeedsLogin` when none can be renewed, and what moving a login raises.
    """
    broker = broker or default_broker()
    if broker.policy.subscriptions == "claude-code-only":
        raise PolicyRefused(
            "Claude Code's account is not switched: only a person switches between accounts billed to a Claude "
            "subscription; if they are yours alone and you read the vendor's terms, set "
            'subscriptions = "own-use" under [policy] in config.toml; one switch by name works without that: '
            "tokenferry claude-code switch NAME"
        )
    if isinstance(reset_at, datetime):
        reset_at = reset_at.timestamp()
    if reset_at is not None:
        epoch_seconds(reset_at)
        reset_at = math.ceil(reset_at)
    home = _home_of(broker)
    from tokenferry.broker._swap import swap  # noqa: PLC0415  # SQLite, which nothing else here needs

    return swap(broker, home, reset_at)


def _home_of(broker: Broker) -> Home:
    if broker.home is None or not isinstance(broker.book.store, Attaching):
        raise UsageError("a login can be given to Claude Code from a home of files alone")
    return broker.home
