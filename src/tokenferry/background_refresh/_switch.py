import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Protocol

from tokenferry.broker import Broker, swap_to_next_available_account
from tokenferry.databases import open_state
from tokenferry.errors import StorageFailed, TokenferryError, TryLater
from tokenferry.refresh import send
from tokenferry.settings import Home

if TYPE_CHECKING:
    from tokenferry.state import Cooldown

_OF_LIMITS: Final = frozenset({"window", "rejected", "rate-limited"})
_LEAST_PAUSE: Final = 60.0
_CLAUDE_CODE: Final = "claude-code"


class Tell(Protocol):
    """Gets a sentence about a swap, and the account that is limited."""

    def __call__(self, text: str, account: str | None, *, needs_help: bool) -> None: ...


class ClaudeCodeSwitcher:
    """Gives Claude Code the next account when any process has recorded its present one as limited.

    If the provider declares a usage endpoint, it is asked now and then. The swap itself checks the policy.
    """

    def __init__(self, broker: Broker, home: Home, *, tell: Tell, now: Callable[[], float] = time.time) -> None:
        from tokenferry.state import UsageProbe  # noqa: PLC0415  # SQLite, which keeping alone doesn't need

        self._broker = broker
        self._tell = tell
        self._now = now
        self._state = open_state(home, now=now)
        self._probe = UsageProbe(
            self._state.cooldowns,
            providers=lambda: broker.providers,
            accounts=broker.accounts,
            resolve=broker.resolve,
            send=send,
            now=now,
            watched=self._present,
        )
        self._tried: tuple[Hashable, float] = (None, 0.0)
        self._reported = ""

    def close(self) -> None:
        self._state.close()

    def look(self) -> None:
        """Swap if that is due. Raises only what the records do."""
        cooldowns = self._state.cooldowns.list()
        if self._broker.policy.subscriptions != "claude-code-only":
            self._probe.look(cooldowns)
        now = self._now()
        limited = [one for one in cooldowns if self._limits_claude_code(one, now)]
        if not limited:
            return
        known, again = self._tried
        if known == cooldowns and now < again:
            return
        self._swap(max(limited, key=lambda one: float("inf") if one.until is None else one.until), now)

    def _swap(self, mark: "Cooldown", now: float) -> None:
        name, pause = mark.scope.name, _LEAST_PAUSE
        try:
            label = swap_to_next_available_account(mark.until, self._broker)
        except StorageFailed:
            raise
        except TokenferryError as fault:
            if isinstance(fault, TryLater) and fault.retry_after is not None:
                pause = max(pause, fault.retry_after)
            text = f"account {name} is limited, and Claude Code keeps it: {fault}"
            if text != self._reported:
                self._tell(text, name, needs_help=True)
            self._reported = text
        else:
            self._reported = ""
            self._tell(f"account {name} is limited, so Claude Code has {label} now", name, needs_help=False)
        self._tried = (self._state.cooldowns.list(), now + pause)

    def _present(self) -> tuple[str, ...]:
        """Give the account that Claude Code has, by our records."""
        return tuple(account.name for account in self._broker.accounts() if account.store == _CLAUDE_CODE)

    def _limits_claude_code(self, one: "Cooldown", now: float) -> bool:
        is_its = one.scope.kind == "account" and not one.scope.family and one.scope.name in self._present()
        return is_its and one.cause in _OF_LIMITS and not one.is_over(now)
