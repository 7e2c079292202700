"""Asks usage endpoints whether limited accounts have recovered, which can't be learned from requests alone."""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from random import Random
from typing import Final

from tokenferry.credentials import Credential
from tokenferry.errors import TokenferryError
from tokenferry.limits import LimitState, Window, read_usage
from tokenferry.oauth import HttpOutcome, TokenRequest, TokenResponse
from tokenferry.providers import Provider
from tokenferry.state._cooldowns import Cooldown, Cooldowns, Scope
from tokenferry.stores import Account

logger = logging.getLogger(__name__)

_LEAST, _MOST = 180.0, 300.0
_FUZZ: Final = (1.0, 30.0)
_TIMEOUT: Final = 15.0
_OF_WINDOWS: Final = frozenset({"window", "rejected", "rate-limited", "overage"})
_OK: Final = 200


def _on_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="tokenferry-usage", daemon=True).start()


class UsageProbe:
    """Checks cooldowns, and asks usage endpoints about accounts: each once in 3 to 5 minutes, by one process.

    `look` returns at once, since `start` runs the questions, by default on a thread. `watched` gives accounts to ask
    about although nothing limits them; one that has used up a window gets a cooldown.
    """

    def __init__(
        self,
        cooldowns: Cooldowns,
        *,
        providers: Callable[[], Mapping[str, Provider]],
        accounts: Callable[[], list[Account]],
        resolve: Callable[[str], Credential],
        send: Callable[[TokenRequest, float], HttpOutcome],
        now: Callable[[], float] = time.time,
        rng: Random | None = None,
        start: Callable[[Callable[[], None]], None] = _on_a_thread,
        watched: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._cooldowns = cooldowns
        self._providers = providers
        self._accounts = accounts
        self._resolve = resolve
        self._send = send
        self._now = now
        self._rng = rng or Random()  # noqa: S311  # it spreads waits
        self._start = start
        self._watched = watched
        self._asked: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._is_asking = False

    def look(self, cooldowns: tuple[Cooldown, ...]) -> None:
        """Start to ask about the accounts that are due."""
        now = self._now()
        limited: dict[str, list[Cooldown]] = {}
        for one in cooldowns:
            if one.scope.kind == "account" and one.cause in _OF_WINDOWS and not one.is_over(now):
                limited.setdefault(one.scope.name, []).append(one)
        watched = self._watched()
        if self._is_asking or not (limited or watched):
            return
        for account in self._accounts():
            provider = self._providers().get(account.provider)
            url = None if provider is None else provider.usage_endpoint
            against = limited.get(account.name, [])
            if url is None or not (against or account.name in watched) or not self._is_due(account.name, against, now):
                continue
            self._is_asking = True
            self._start(partial(self._ask, account, url, against))
            return

    def _is_due(self, account: str, limited: list[Cooldown], now: float) -> bool:
        last = max((self._asked.get(account, 0.0), *(one.noted_at for one in limited)))
        return now - last >= self._pauses.setdefault(account, self._rng.uniform(_LEAST, _MOST))

    def _ask(self, asked: Account, url: str, limited: list[Cooldown]) -> None:
        account = asked.name
        self._asked[account] = self._now()
        self._pauses.pop(account, None)
        try:
            if limited and not self._cooldowns.claim(limited[0]):
                return
            state = self._answer(asked, url)
            if state is not None and not limited:
                self._note(account, state)
            elif state is not None:
                for one in limited:
                    self._judge(one, state)
        except TokenferryError as fault:
            logger.info("account %s: its usage can't be asked for: %s", account, fault)
        finally:
            self._is_asking = False

    def _note(self, account: str, state: LimitState) -> None:
        full = [window for window in state.rejected if not window.is_of_family]
        if full and (until := self._fuzzed(full)) is not None:
            names = " and ".join(f"window {window.name}" for window in full)
            found = Cooldown(
                Scope("account", account), "window", "usage", until, f"The account has used up its {names}."
            )
            self._cooldowns.put(found)
            logger.info("account %s is limited, says its usage endpoint: %s", account, found.evidence.rstrip("."))

    def _answer(self, asked: Account, url: str) -> LimitState | None:
        account = asked.name
        headers = self._resolve(account).headers()
        provider = self._providers().get(asked.provider)
        if provider is None or provider.usage_endpoint != url:
            return None  # the configuration has changed: the credential may be meant for another host
        answer = self._send(TokenRequest(url, headers, b"", "GET"), _TIMEOUT)
        state = read_usage(answer.body) if isinstance(answer, TokenResponse) and answer.status == _OK else None
        if state is None:
            found = f"answered {answer.status}" if isinstance(answer, TokenResponse) else answer.reason
            logger.info("account %s: its usage can't be asked for: %s", account, found)
        return state

    def _judge(self, cooldown: Cooldown, state: LimitState) -> None:
        """Apply the endpoint's answer, which is better informed than the response that limited the account."""
        full = [window for window in state.rejected if window.is_of_family == bool(cooldown.scope.family)]
        name = cooldown.scope.name
        if not full:
            self._cooldowns.clear(cooldown.scope, cooldown.cause)
            logger.info("account %s works again, says its usage endpoint: %s is over", name, cooldown.cause)
            return
        if (until := self._fuzzed(full)) is not None:
            found = Cooldown(cooldown.scope, cooldown.cause, "usage", until, cooldown.evidence)
            self._cooldowns.put(found, is_better_informed=True)

    def _fuzzed(self, windows: list[Window]) -> int | None:
        """Give when the last of them ends, plus a random delay, so that waiting requests don't return at once."""
        end = max((window.reset for window in windows if window.reset is not None), default=None)
        return None if end is None else math.ceil(end + self._rng.uniform(*_FUZZ))
