"""Which of our logins Claude Code has: given to it on request, or swapped for the next one that isn't limited."""

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
    """Make the account's login that of Claude Code; the one that is there goes home to its account.

    Raises what `Mover.move` raises, and `UsageError` for a login that Claude Code can't use.
    """
    broker = broker or default_broker()
    home = _home_of(broker)
    provider = None
    try:
        document = broker.book.read(name)
    except NeedsLogin:
        logger.debug("account %s: the login that was given to Claude Code isn't there any more", name)
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
        broker.publisher.follow(one)  # Claude Code may have renewed what came home
    return moved


def interrupted_move(home: Home) -> "MoveRecord | None":
    """The move of a login to Claude Code that was cut short, if there is one. Raises `CorruptFile`, `UnsafeFile`."""
    return open_mover(home).pending() if home.move_to_claude_code.exists() else None


def complete_move(home: Home, timeout: float) -> bool:
    """Bring a move that was cut short to its end; tell whether there was one that no process works on.

    Waits `timeout` seconds at most for locks. Raises what `Mover.recover` raises.
    """
    is_under_way = FileLock(home.move_to_claude_code, home.locks).is_held()
    if is_under_way or not home.move_to_claude_code.exists():
        return False
    open_mover(home).recover(timeout)
    return True


def swap_to_next_available_account(reset_at: datetime | float | None = None, broker: Broker | None = None) -> str:
    """Say that the account that Claude Code has is limited, give it the next one that isn't, and tell whose it is.

    `reset_at` is when the limit ends: a datetime (one without a time zone is local time, as everywhere in Python) or
    seconds since 1970 UTC, rounded up to a whole second; None if that isn't known. `select_next_account_for_swap`
    chooses among the accounts in their order. One with less than 300 s left is renewed first. Gives the e-mail address
    of the account, or its name where that isn't known. If another program changes
    the account while this call waits, nothing is moved twice.

    Raises `PolicyRefused`, `UsageError` for what is no time, `UnknownAccount` for fewer than 2 accounts, `TryLater`
    when all are limited, `NeedsLogin` when none can be renewed, and what keeps a login from being moved.
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
