"""Logs cooldowns, recoveries and exhaustion of accounts: one line per change, not per request."""

import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from tokenferry.pool._cooldowns import CooldownCache, Key, key_of
from tokenferry.state import Cooldown, Scope

logger = logging.getLogger(__name__)

_SPAN: Final = 60.0
_MOST: Final = 1000


class AccountLog:
    """Logs at level info. `now` gives seconds since 1970 UTC.

    Cooldowns of providers are not logged: they end in a moment.
    """

    def __init__(self, cooldowns: CooldownCache, now: Callable[[], float]) -> None:
        self._cooldowns = cooldowns
        self._now = now
        self._logged: dict[Key, Cooldown] = {}
        self._exhausted: dict[frozenset[str], float] = {}
        self.on_exhausted: Callable[[str], object] = _ignore
        """Called with each line about exhaustion. It must not block."""
        self.has_entries = False
        """Whether a line was logged that a good answer may end."""

    def limited(self, cooldown: Cooldown) -> None:
        """Log a cooldown that is about to be added."""
        known = self._cooldowns.current(cooldown)
        is_known = known is not None and not known.is_over(self._now())
        if is_known or cooldown.scope.kind == "provider":
            return
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[key_of(cooldown)] = cooldown
        self.has_entries = True
        logger.info("%s is in cooldown %s: %s", _named(cooldown.scope), _until(cooldown), cooldown.evidence.rstrip("."))

    def recovered(self, cooldown: Cooldown) -> None:
        """Log that a cooldown is over."""
        self._logged.pop(key_of(cooldown), None)
        logger.info("%s works again: %s is over", _named(cooldown.scope), cooldown.cause)

    def served(self, account: str, organization: str) -> None:
        """Log the ended cooldowns of an account that has served a request."""
        self._exhausted = {names: at for names, at in self._exhausted.items() if account not in names}
        now = self._now()
        for cooldown in list(self._logged.values()):
            scope, known = cooldown.scope, self._cooldowns.current(cooldown)
            is_its = scope.name == (account if scope.kind == "account" else organization)
            if is_its and (known is None or known.is_over(now)):
                self.recovered(cooldown)
        self.has_entries = bool(self._logged or self._exhausted)

    def exhausted(self, accounts: Collection[str], message: str) -> None:
        """Log that none of the accounts could serve a request, at most once a minute."""
        names, now = frozenset(accounts), self._now()
        if not 0 <= now - self._exhausted.get(names, -_SPAN) < _SPAN:
            if len(self._exhausted) >= _MOST:
                self._exhausted.clear()
            self._exhausted[names] = now
            self.has_entries = True
            logger.info("%s", message)
            self.on_exhausted(message)


def _ignore(_: str) -> None:
    pass


def _named(scope: Scope) -> str:
    return f"{scope.kind} {scope.name}" + (f", models of {scope.family}," if scope.family else "")


def _until(cooldown: Cooldown) -> str:
    if cooldown.until is None:
        return "with no known end"
    return f"until {datetime.fromtimestamp(cooldown.until, UTC):%Y-%m-%d %H:%M:%S} UTC"
