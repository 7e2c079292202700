"""What happens to accounts, as lines of a log: one for each change, however many requests meet it."""

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
    """Tells of limits, recoveries and exhaustion, at level info.

    `now` gives seconds since 1970 UTC. Providers are left out: a cooldown of one ends in a moment.
    """

    def __init__(self, cooldowns: CooldownCache, now: Callable[[], float]) -> None:
        self._cooldowns = cooldowns
        self._now = now
        self._logged: dict[Key, Cooldown] = {}
        self._exhausted: dict[frozenset[str], float] = {}
        self.on_exhausted: Callable[[str], object] = _ignore
        """Called with each line about exhaustion. It must not wait."""
        self.has_entries = False
        """Whether anything was logged that a good answer may end."""

    def limited(self, cooldown: Cooldown) -> None:
        """A cooldown is about to be added."""
        known = self._cooldowns.current(cooldown)
        is_known = known is not None and not known.is_over(self._now())
        if is_known or cooldown.scope.kind == "provider":
            return
        if len(self._logged) >= _MOST:
            self._logged.clear()
        self._logged[key_of(cooldown)] = cooldown
        self.has_entries = True
        logger.info("%s is in cooldown %s: %s", _who(cooldown.scope), _until(cooldown), cooldown.evidence.rstrip("."))

    def recovered(self, cooldown: Cooldown) -> None:
        """It turned out to be over."""
        self._logged.pop(key_of(cooldown), None)
        logger.info("%s works again: %s is over", _who(cooldown.scope), cooldown.cause)

    def served(self, account: str, organization: str) -> None:
        """The account has served: log that the cooldowns which have ended are over."""
        self._exhausted = {names: at for names, at in self._exhausted.items() if account not in names}
        now = self._now()
        for cooldown in list(self._logged.values()):
            scope, known = cooldown.scope, self._cooldowns.current(cooldown)
            is_its = scope.name == (account if scope.kind == "account" else organization)
            if is_its and (known is None or known.is_over(now)):
                self.recovered(cooldown)
        self.has_entries = bool(self._logged or self._exhausted)

    def exhausted(self, accounts: Collection[str], message: str) -> None:
        """No account could serve a request. At most one line a minute for the same accounts."""
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


def _who(scope: Scope) -> str:
    return f"{scope.kind} {scope.name}" + (f", models of {scope.family}," if scope.family else "")


def _until(cooldown: Cooldown) -> str:
    if cooldown.until is None:
        return "with no known end"
    return f"until {datetime.fromtimestamp(cooldown.until, UTC):%Y-%m-%d %H:%M:%S} UTC"
