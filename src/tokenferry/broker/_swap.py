import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokenferry.broker._broker import Broker
from tokenferry.broker._next_account import select_next_account_for_swap
from tokenferry.broker._store_factory import open_mover, provider_beside
from tokenferry.credentials import OAuthToken
from tokenferry.databases import open_state
from tokenferry.errors import (
    CredentialRefused,
    NeedsLogin,
    RefreshBusy,
    RefreshUncertain,
    TokenferryError,
    TryLater,
    UnknownAccount,
)
from tokenferry.refresh import seconds_left
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Cooldowns, Scope
from tokenferry.stores import Document, FileLock

if TYPE_CHECKING:
    from tokenferry.claude_code.moves import Mover, Present

logger = logging.getLogger(__name__)

_CAUSE: Final = "rate-limited"
_SOURCE: Final = "swap"
_BILLED: Final = "overage"  # it serves all the same
_LEAST_LIFE: Final = 300.0
_LONGEST_SWAP: Final = 300.0
_FEWEST: Final = 2


def swap(broker: Broker, home: Home, reset_at: int | None) -> str:
    """Mark Claude Code's account as limited, and give it the next one; see `swap_to_next_available_account`."""
    with open_state(home) as state:
        return _Swap(broker, open_mover(home), state.cooldowns, home).run(reset_at)


class _Swap:
    """One swap, with the reasons why accounts were passed over."""

    def __init__(self, broker: Broker, mover: "Mover", cooldowns: Cooldowns, home: Home) -> None:
        self._broker = broker
        self._mover = mover
        self._cooldowns = cooldowns
        self._home = home
        self._passed_over: list[TokenferryError] = []

    def run(self, reset_at: int | None) -> str:
        before = self._present()
        with FileLock(self._home.move_to_claude_code.with_name("swap"), self._home.locks).held(_LONGEST_SWAP):
            present = self._present()
            documents = self._suitable()
            if len(documents) < _FEWEST:
                raise UnknownAccount(
                    "there are fewer than 2 accounts that Claude Code can use; log in to another one with: "
                    "tokenferry account add NAME --provider claude-max"
                )
            for name in before.same:
                mark = Cooldown(Scope("account", name), _CAUSE, _SOURCE, reset_at, "Claude Code showed it to its user")
                self._cooldowns.put(mark)
                end = "an unknown time" if reset_at is None else f"{datetime.fromtimestamp(reset_at, UTC):%F %T} UTC"
                logger.info("account %s is limited until %s, as Claude Code's user says", name, end)
            if present.name is not None and present.name != before.name:
                logger.info("Claude Code has been given account %s by another process", present.name)
                return _label(documents[present.name]) if present.name in documents else present.name
            others = [one for one in documents.values() if one.account.store == "file"]
            return self._to_the_next([one for one in others if one.account.name not in present.same], documents)

    def _present(self) -> "Present":
        first = next(iter(self._suitable().values()), None)
        provider = None if first is None else self._broker.provider_of(first.account)
        return self._mover.take_in(provider_beside(provider))

    def _suitable(self) -> dict[str, Document]:
        """Return the accounts that Claude Code can use, in order."""
        found: dict[str, Document] = {}
        for account in self._broker.book.listing().accounts:
            try:
                document = self._broker.book.read(account.name)
                provider = self._broker.provider_of(document.account)
            except TokenferryError:
                continue
            token = document.credential
            is_ours = account.owner in {"tokenferry", "claude-code"}
            if is_ours and isinstance(token, OAuthToken) and token.refresh and provider.bills_subscription(token):
                found[account.name] = document
        return found

    def _to_the_next(self, others: list[Document], known: dict[str, Document]) -> str:
        now, marks = time.time(), self._marks()
        limited_until = {name: _end(found) for name, found in marks.items()}
        left = {one.account.name: one for one in others}
        while (name := select_next_account_for_swap(left, limited_until, now=now)) is not None:
            document = left.pop(name)
            try:
                if seconds_left(_token(document), now) < _LEAST_LIFE:
                    document = self._broker.renew(name)
                moved = self._mover.move(name)
            except (NeedsLogin, CredentialRefused, RefreshBusy, RefreshUncertain) as fault:
                self._pass_over(fault)
            except TryLater as fault:
                if seconds_left(_token(document), now) >= _LEAST_LIFE:
                    raise  # Claude Code is busy, not this account
                self._pass_over(fault)
            else:
                self._cooldowns.clear(Scope("account", name))
                logger.info("Claude Code has account %s now", name)
                for one in filter(None, (name, moved.home)):
                    self._broker.publisher.follow(one)
                return _label(document)
        raise self._none_left([marks[name] for name in known if name in marks], now)

    def _pass_over(self, fault: TokenferryError) -> None:
        logger.warning("passed over: %s", fault)
        self._passed_over.append(fault)

    def _marks(self) -> dict[str, list[Cooldown]]:
        marks: dict[str, list[Cooldown]] = {}
        for one in self._cooldowns.list():
            if one.scope.kind == "account" and not one.scope.family and one.cause != _BILLED:
                marks.setdefault(one.scope.name, []).append(one)
        return marks

    def _none_left(self, limited: list[list[Cooldown]], now: float) -> TokenferryError:
        """Return the error that says why no account could take over."""
        if self._passed_over:
            reasons = "; ".join(str(fault) for fault in self._passed_over)
            message = f"no account that isn't limited could take over: {reasons}"
            is_hopeless = all(isinstance(fault, NeedsLogin | CredentialRefused) for fault in self._passed_over)
            return NeedsLogin(message) if is_hopeless else TryLater(message, retry_after=60.0)
        ends = [_end(marks) for marks in limited]
        earliest = min((end for end in ends if end is not None and end > now), default=None)
        if earliest is None:
            return TryLater("All OAuth accounts are rate-limited. No reset time available.")
        minutes, moment = math.ceil((earliest - now) / 60), datetime.fromtimestamp(earliest, UTC)
        return TryLater(
            f"All OAuth accounts are rate-limited. Earliest reset in {minutes} minute(s) (at {moment:%H:%M} UTC).",
            retry_after=earliest - now,
        )


def _token(document: Document) -> OAuthToken:
    assert isinstance(document.credential, OAuthToken)
    return document.credential


def _label(document: Document) -> str:
    return _token(document).email or document.account.name


def _end(marks: list[Cooldown]) -> int | None:
    """Return when the last of them ends; None if unknown."""
    ends = [mark.until for mark in marks]
    return None if None in ends else max(end for end in ends if end is not None)
