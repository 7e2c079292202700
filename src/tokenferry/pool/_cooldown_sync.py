"""Synchronizes a pool's cooldowns with the state database, outside the event loop."""

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
_RETENTION: Final = 7 * 86_400.0
_PRUNE_EVERY: Final = 3600.0


class CooldownSync(PeriodicThread):
    """Writes a pool's changes and reads the database four times a second, on its own thread.

    So each process sees within a second the cooldowns that others found or an operator cleared. A change that can't be
    written applies in this process only, and is written later. Windows that answers report are shared in the same way
    once they have moved by 2 %.

    `fingerprint` gives the fingerprint of an account's current credential; a cooldown for another one is over.
    `accounts` gives an object that is replaced when accounts change. `look` is called with the cooldowns after each
    round. As a context manager it reads first, runs within the block, and writes the rest at the end.
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
        trouble = "cooldowns are not saved, and those of other processes not seen"
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
        self._written = self._adopted = 0
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
            self._state.cooldowns.prune(now - _RETENTION)
            self._state.limits.prune(now - LONGEST_WINDOW)
        self._write()
        self._share_limits()
        cooldowns = self._state.cooldowns.list()
        accounts = self._accounts()
        if accounts is not self._seen or cooldowns is not self._known:
            self._seen = accounts
            if self._forget_outdated(cooldowns):
                cooldowns = self._state.cooldowns.list()
        if cooldowns is not self._known or self._written != self._adopted:
            self._cooldowns.adopt(cooldowns, self._state.organizations.all(), self._written)
            self._known, self._adopted = cooldowns, self._written
        self._look(cooldowns)

    def _share_limits(self) -> None:
        """Write windows that have moved, and read those that others wrote; the latest write counts."""
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
                self._limits = {**self._limits, account: state}  # so that it doesn't count as another process's
                self._state.limits.put(account, state)

    def _write(self) -> None:
        changes = self._cooldowns.changes
        while changes:
            self._save(changes[0])
            self._written = changes.popleft().number

    def _save(self, change: Change) -> None:
        match change:
            case CooldownAdded():
                self._state.cooldowns.put(change.cooldown, is_better_informed=change.is_better_informed)
            case CooldownCleared():
                self._state.cooldowns.clear(change.scope, change.cause)
            case OrganizationSeen():
                self._state.organizations.put(change.account, change.organization)

    def _forget_outdated(self, cooldowns: tuple[Cooldown, ...]) -> bool:
        """Clear cooldowns of credentials that were replaced."""
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
