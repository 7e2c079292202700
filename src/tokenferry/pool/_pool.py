import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from tokenferry.limits import Classification, LimitState, Rule, read_limits
from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._account_log import AccountLog
from tokenferry.pool._capacity import Capacity
from tokenferry.pool._cooldowns import SOURCE, CooldownCache, cooldown_of, is_about_an_account, scope_of
from tokenferry.pool._recent_refusals import RecentRefusals
from tokenferry.pool._selection import OVERAGE, CandidateCache, Selection, family_of
from tokenferry.pool._selector import Selector, subject_of
from tokenferry.pool._steps import Headers, text_headers
from tokenferry.pool._unconfirmed import UnconfirmedRefusals, may_be_the_requests
from tokenferry.pool._usage import LimitUsage
from tokenferry.rates import Share
from tokenferry.settings import PoolSettings
from tokenferry.state import Cooldown, Scope

if TYPE_CHECKING:
    from tokenferry.pool._cooldowns import Key
    from tokenferry.pool._lease import Ticket

logger = logging.getLogger(__name__)

_LOOK: Final = 1.0
_ROLL_OVER: Final = 60.0
_MOST_FAILURES: Final = 10_000
_ANY: Final = Criteria()


class Pool:
    """The state of all accounts: selection, cooldowns, capacity, usage and the queue.

    It does no I/O and belongs to one thread, unless a method says otherwise. `now` gives seconds since 1970 UTC,
    `monotonic` seconds of a monotonic clock.
    """

    def __init__(
        self,
        settings: PoolSettings | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        limit_rules: Mapping[str, Sequence[Rule]] | None = None,
        is_shared: bool = False,
    ) -> None:
        """`limit_rules` are providers' own rules, by name, which come before those for all.

        `is_shared`: gateways of other hosts use the same accounts.
        """
        self.settings = settings or PoolSettings()
        self.limit_rules = limit_rules or {}
        self.now = now
        self.monotonic = monotonic
        self.rng = rng or Random()  # noqa: S311  # only for jitter
        self.cooldowns = CooldownCache(now)
        self.usage = LimitUsage()
        self.capacity = Capacity(self.settings)
        self._recent_refusals = RecentRefusals()
        self._unconfirmed = UnconfirmedRefusals()
        self._candidates = CandidateCache(self.settings, self.cooldowns, self.usage)
        self.selector = Selector(
            *(self._candidates, self.capacity, self._recent_refusals, self._unconfirmed),
            now=now,
            monotonic=monotonic,
            is_shared=is_shared,
        )
        self.waiting: deque[Ticket] = deque()
        self._looked: dict[str, float] = {}
        self._failures: dict[Key, int] = {}
        self._billed: dict[str, float] = {}
        self.account_log = AccountLog(self.cooldowns, self.now)

    def configure(self, settings: PoolSettings, limit_rules: Mapping[str, Sequence[Rule]] | None = None) -> None:
        """Apply new settings."""
        self.settings = settings
        self.limit_rules = limit_rules or {}
        self.capacity.configure(settings, self.monotonic())
        self._candidates.configure(settings)
        self._billed.clear()

    def share_with(self, share: Share) -> None:
        """Use this share of each cap; other workers have the rest."""
        if share != self.capacity.share:
            self.capacity.configure(self.settings, self.monotonic(), share)

    def offer(self, account: PoolAccount, *, asking: "Ticket | None" = None) -> float | None:
        """Give the free slots of an account to the waiting requests, in their order.

        A request that is next but must wait for the rate is woken to wait for it. If it is the one `asking`, return
        its seconds instead.
        """
        capacity, at = self.capacity, self.monotonic()
        capacity.held.pop(account.name, None)
        for ticket in tuple(self.waiting):
            if not capacity.has_slot(account):
                break
            found = ticket.select(account)
            if found is None:
                continue
            delay = capacity.delay(account, at, ticket.tokens)
            if not delay:
                ticket.grant(*found)
            else:
                capacity.held[account.name] = account
                if ticket is asking:
                    return delay
            if ticket is not asking:
                ticket.wake()
            if delay:
                break
        return None

    def offer_held(self) -> None:
        """Offer the held accounts to others, after the request that they were held for has left."""
        for account in tuple(self.capacity.held.values()):
            self.offer(account)

    def served(self, target: Target, criteria: Criteria, selection: Selection, headers: Headers, at: float) -> None:
        """Record a good answer. `at` is in seconds of the monotonic clock."""
        name = selection.account.name
        if self.selector.down:
            self.selector.down.pop(target.group.provider, None)
        if self._recent_refusals:
            self._recent_refusals.drop(name, subject_of(target, criteria))
        if not criteria.side and (self._failures or self._unconfirmed):
            self._reset_failures(selection.account, target)
        if selection.probed is not None:
            self._recovered(selection, target)
        if self.account_log.has_entries:
            self.account_log.served(name, self._candidates.organization_of(selection.account))
        if self._looked.get(name, -_LOOK) + _LOOK <= at:
            self._looked[name] = at
            limits = read_limits(text_headers(headers), now=self.now(), provider_format=target.group.wire_format)
            self.note_limits(selection.account, limits, is_side=bool(criteria.side))

    def note_limits(self, account: PoolAccount, state: LimitState, *, is_side: bool = False) -> None:
        """Record the limits in an answer. Those of a side route are its own and only name the organization."""
        if state.organization and not account.bills_subscription:
            known = self.cooldowns.organizations.get(account.name, account.organization)
            if known != state.organization:
                self.cooldowns.learn(account.name, state.organization)
        if is_side:
            return
        self.usage.note(account.name, state, self.settings.quota_warning)
        if state.bills_overage:
            self._bill(account, state)

    def cool_down(
        self,
        targets: Sequence[Target],
        target: Target,
        criteria: Criteria,
        selection: Selection,
        error: Classification,
        *,
        fingerprint: str = "",
        is_certain: bool = False,
    ) -> Cooldown | None:
        """Start the cooldown for an error, and give it; None if it starts none.

        `target` is the one of the request's `targets` that answered. `is_certain` says that the request can't be the
        cause, since the provider declared the login dead.
        """
        account, now = selection.account, self.now()
        if criteria.side or error.hold == "later":
            if is_about_an_account(error):
                self._recent_refusals.put(account.name, subject_of(target, criteria), self.monotonic())
            return None
        scope = scope_of(error, account, self._candidates.organization_of(account), target.model)
        if scope is None:
            return None
        key = (scope.kind, scope.name, scope.family, error.cause)
        if is_certain or not may_be_the_requests(error):
            self._unconfirmed.confirm(key)
        elif (
            not self._unconfirmed.note(key, criteria.client)
            and (error.action != "refresh" or account.can_renew)
            and self._is_last(targets, account, scope)
        ):
            return None  # the next request shows whether this one was the cause
        failures = self._failures.get(key, 0)
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[key] = failures + 1
        evidence = error.reason
        if error.scope == "credential" and fingerprint:  # the cooldown ends with the credential
            evidence = f"{evidence.rstrip('.')}: {fingerprint}."
        cooldown = cooldown_of(error, scope, now=now, failures=failures, rng=self.rng, evidence=evidence)
        self.account_log.limited(cooldown)
        # The result of a probe replaces the cooldown that it tested.
        is_news = selection.probed is not None and selection.probed.cooldown.cause == error.cause
        self.cooldowns.note(cooldown, is_better_informed=is_news)
        return cooldown

    def _is_last(self, targets: Sequence[Target], account: PoolAccount, scope: Scope) -> bool:
        """Whether no other account could serve the request during a cooldown of this scope."""
        now, at = self.now(), self.monotonic()
        shared = scope.name if scope.kind == "organization" else None
        return not any(
            one.name != account.name and (shared is None or self._candidates.organization_of(one) != shared)
            for target in targets
            for one in self._candidates.get(target, _ANY, now, at).ready
        )

    def _reset_failures(self, account: PoolAccount, target: Target) -> None:
        """Reset the failures of the account and the provider for this model, after a good answer."""
        families = families_of(target)
        names = {account.name, target.group.provider}
        self._failures = {
            key: count for key, count in self._failures.items() if key[1] not in names or key[2] not in families
        }
        self._unconfirmed.served(account.name, self._candidates.organization_of(account), families)

    def _recovered(self, selection: Selection, target: Target) -> None:
        """Clear the cooldowns of the account for this model, after a successful probe."""
        families = families_of(target)
        against = self.cooldowns.of("account", selection.account.name, families)
        if organization := self._candidates.organization_of(selection.account):
            against += self.cooldowns.of("organization", organization, families)
        for cooldown in against:
            self.cooldowns.clear(cooldown)
            self.account_log.recovered(cooldown)

    def _bill(self, account: PoolAccount, state: LimitState) -> None:
        """Warn that use is billed beyond the subscription, and start a cooldown if the policy demands it."""
        ends = [window.reset for window in state.rejected if window.reset is not None]
        until = max(ends, default=state.reset)
        if until is None or until - self._billed.get(account.name, 0.0) < _ROLL_OVER:
            return
        self._billed[account.name] = until
        logger.warning("account %s: its use is now billed beyond its subscription", account.name)
        if self.settings.overage != "allow":
            scope, evidence = Scope("account", account.name), "Its use is now billed beyond its subscription."
            self.cooldowns.note(Cooldown(scope, OVERAGE, SOURCE, math.ceil(until), evidence, int(self.now())))


def families_of(target: Target) -> tuple[str, ...]:
    """Give the families and models whose cooldowns concern the target: all, its model's family, its model."""
    return tuple(dict.fromkeys(("", family_of(target.model), target.model)))
