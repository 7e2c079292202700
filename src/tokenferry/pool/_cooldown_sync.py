"""Keeps a pool and what is on record in step, away from the event loop."""

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from tokenferry.background import PeriodicThread
from tokenferry.errors import TokenferryError
from tokenferry.limits import LONGEST_WINDOW, LimitState
from tokenferry.pool import OF_CREDENTIALS, Change, CooldownAdded, CooldownCleared, OrganizationSeen, Pool
from tokenferry.pool._usage import has_moved
from tokenferry.state import Cooldown, State

logger = logging.getLogger(__name__)

_INTERVAL: Final = 0.25
_KEPT_AFTER: Final = 7 * 86_400.0
_PRUNE_EVERY: Final = 3600.0


class CooldownSync(PeriodicThread):
    """Writes a pool's changes down, and tells it what is on record, four times a second, on a thread of its own.

    So every process that has one knows within a second what any of them found out, or what a person cleared. What
    can't be written counts in this process alone, and is tried again. What answers tell of windows is shared in the
    same way, when it has moved by 2 %.

    `fingerprint` gives that of an account's present credential: a cooldown for another one is over. `look` is called
    after each round, for what else is to be done. As a context manager it reads at the beginning, works within the
    block, and writes what is left at its end.
    """

    def __init__(
        self,
        pool: Pool,
        state: State,
        *,
        fingerprint: Callable[[str], str],
        accounts: Callable[[], object],
        look: Callable[[tuple[Cooldown, ...]], None] = lambda _: None,
        interval: float = _INTERVAL,
        now: Callable[[], float] = time.time,
    ) -> None:
        trouble = "cooldowns are not written down, and those of other processes not seen"
        super().__init__("tokenferry-recorder", self._round, interval, trouble=trouble)
        self._cooldowns = pool.cooldowns
        self._usage = pool.usage
        self._state = state
        self._fingerprint = fingerprint
        self._accounts = accounts
        self._look = look
        self._now = now
        self._known: tuple[Cooldown, ...] | None = None
        self._seen: object = None
        self._written = self._told = 0
        self._usage_seen = 0
        self._limits: Mapping[str, LimitState] = {}
        self._prune_at = 0.0

    def __enter__(self) -> Self:
        self.guarded(self._round)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, fault, traceback)
        self.guarded(self._write)

    def _round(self) -> None:
        now = self._now()
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_EVERY
            self._state.cooldowns.prune(now - _KEPT_AFTER)
            self._state.limits.prune(now - LONGEST_WINDOW)
        self._write()
        self._share_limits()
        cooldowns = self._state.cooldowns.list()
        accounts = self._accounts()
        if accounts is not self._seen or cooldowns is not self._known:
            self._seen = accounts
            if self._forget_outdated(cooldowns):
                cooldowns = self._state.cooldowns.list()
        if cooldowns is not self._known or self._written != self._told:
            self._cooldowns.adopt(cooldowns, self._state.organizations.all(), self._written)
            self._known, self._told = cooldowns, self._written
        self._look(cooldowns)

    def _share_limits(self) -> None:
        """Write what has moved of the windows, and know what others wrote since: the last one to write is right."""
        known = self._state.limits.all()
        if known is not self._limits:
            for account, state in known.items():
                if state != self._limits.get(account):
                    self._usage.adopt(account, state)
            self._limits = known
        if self._usage.version != self._usage_seen:
            self._usage_seen = self._usage.version
            moved = [one for one in self._usage.states().items() if has_moved(known.get(one[0]), one[1])]
            for account, state in moved:
                self._limits = {**self._limits, account: state}  # so that it isn't taken for another's
                self._state.limits.put(account, state)

    def _write(self) -> None:
        changes = self._cooldowns.changes
        while changes:
            self._write_down(changes[0])
            self._written = changes.popleft().number

    def _write_down(self, change: Change) -> None:
        match change:
            case CooldownAdded():
                self._state.cooldowns.put(change.cooldown, is_better_informed=change.is_better_informed)
            case CooldownCleared():
                self._state.cooldowns.clear(change.scope, change.cause)
            case OrganizationSeen():
                self._state.organizations.put(change.account, change.organization)

    def _forget_outdated(self, cooldowns: tuple[Cooldown, ...]) -> bool:
        """Drop what was said of credentials that their accounts have no more."""
        outdated = [one for one in cooldowns if one.cause in OF_CREDENTIALS and self._is_outdated(one)]
        for one in outdated:
            self._state.cooldowns.clear(one.scope, one.cause)
            logger.info("account %s has another credential: %s is over", one.scope.name, one.cause)
        return bool(outdated)

    def _is_outdated(self, cooldown: Cooldown) -> bool:
        try:
            return cooldown.scope.kind == "account" and self._fingerprint(cooldown.scope.name) not in cooldown.evidence
        except TokenferryError:
            return False
