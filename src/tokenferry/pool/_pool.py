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
    """The accounts of all providers: who serves next, and what is known against each.

    It does no I/O and belongs to one thread; what other threads may call says so. `now` gives seconds since 1970 UTC,
    `monotonic` those of a clock that doesn't jump.
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
        """`limit_rules` say by a provider's name what its answers mean, before the rules for all.

        `is_shared` where gateways of other hosts have the same accounts.
        """
        self.settings = settings or PoolSettings()
        self.limit_rules = limit_rules or {}
        self.now = now
        self.monotonic = monotonic
        self.rng = rng or Random()  # noqa: S311  # it spreads waits
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
        """Go by other settings from now on."""
        self.settings = settings
        self.limit_rules = limit_rules or {}
        self.capacity.configure(settings, self.monotonic())
        self._candidates.configure(settings)
        self._billed.clear()

    def share_with(self, share: Share) -> None:
        """Use so much of each cap from now on: other workers have the rest."""
        if share != self.capacity.share:
            self.capacity.configure(self.settings, self.monotonic(), share)

    def offer(self, account: PoolAccount, *, asking: "Ticket | None" = None) -> float | None:
        """Give what is free of an account to the requests that wait for it, in their order.

        One whose turn is next, but not now, is woken to wait for just that. Gives its seconds to the `asking` one.
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
        """Offer the held accounts again: the request that they were held for waits no longer."""
        for account in tuple(self.capacity.held.values()):
            self.offer(account)

    def served(self, target: Target, criteria: Criteria, selection: Selection, headers: Headers, at: float) -> None:
        """It gave a good answer, at this moment of the clock that doesn't jump."""
        name = selection.account.name
        if self.selector.down:
            self.selector.down.pop(target.group.provider, None)
        if self._recent_refusals:
            self._recent_refusals.drop(name, subject_of(target, criteria))
        if not criteria.side and (self._failures or self._unconfirmed):
            self._works(selection.account, target)
        if selection.probed is not None:
            self._recovered(selection, target)
        if self.account_log.has_entries:
            self.account_log.served(name, self._candidates.organization_of(selection.account))
        if self._looked.get(name, -_LOOK) + _LOOK <= at:
            self._looked[name] = at
            limits = read_limits(text_headers(headers), now=self.now(), provider_format=target.group.wire_format)
            self.note_limits(selection.account, limits, is_side=bool(criteria.side))

    def note_limits(self, account: PoolAccount, state: LimitState, *, is_side: bool = False) -> None:
        """Take in what an answer says about limits; on a side route these are the route's own."""
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
        """Note what an answer means for later requests; None if it means nothing for them.

        `target` is the one of the request's `targets` that gave the answer. `is_certain`: it can't be the request's own
        fault, for the provider has said that the login is dead.
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
            return None  # the next request shows whether it was this one's own fault
        failures = self._failures.get(key, 0)
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[key] = failures + 1
        evidence = error.reason
        if error.scope == "credential" and fingerprint:  # what is said of one credential isn't true of the next one
            evidence = f"{evidence.rstrip('.')}: {fingerprint}."
        cooldown = cooldown_of(error, scope, now=now, failures=failures, rng=self.rng, evidence=evidence)
        self.account_log.limited(cooldown)
        # What a probe finds out replaces what was known before it.
        is_news = selection.probed is not None and selection.probed.cooldown.cause == error.cause
        self.cooldowns.note(cooldown, is_better_informed=is_news)
        return cooldown

    def _is_last(self, targets: Sequence[Target], account: PoolAccount, scope: Scope) -> bool:
        """Whether no other account could serve such a request once this scope is passed over."""
        now, at = self.now(), self.monotonic()
        shared = scope.name if scope.kind == "organization" else None
        return not any(
            one.name != account.name and (shared is None or self._candidates.organization_of(one) != shared)
            for target in targets
            for one in self._candidates.get(target, _ANY, now, at).ready
        )

    def _works(self, account: PoolAccount, target: Target) -> None:
        """It gave a good answer: what was counted against it for such a model is over."""
        families = families_of(target)
        names = {account.name, target.group.provider}
        self._failures = {
            key: count for key, count in self._failures.items() if key[1] not in names or key[2] not in families
        }
        self._unconfirmed.served(account.name, self._candidates.organization_of(account), families)

    def _recovered(self, selection: Selection, target: Target) -> None:
        """A probe went well: whatever stood against this account for this model is over."""
        families = families_of(target)
        against = self.cooldowns.of("account", selection.account.name, families)
        if organization := self._candidates.organization_of(selection.account):
            against += self.cooldowns.of("organization", organization, families)
        for cooldown in against:
            self.cooldowns.clear(cooldown)
            self.account_log.recovered(cooldown)

    def _bill(self, account: PoolAccount, state: LimitState) -> None:
        """Its use is billed beyond its subscription now; whether that counts is the operator's policy."""
        ends = [window.reset for window in state.rejected if window.reset is not None]
        until = max(ends, default=state.reset)
        if until is None or until - self._billed.get(account.name, 0.0) < _ROLL_OVER:
            return
        self._billed[account.name] = until
        logger.warning("account %s: its use is billed beyond its subscription now", account.name)
        if self.settings.overage != "allow":
            scope, evidence = Scope("account", account.name), "Its use is billed beyond its subscription now."
            self.cooldowns.note(Cooldown(scope, OVERAGE, SOURCE, math.ceil(until), evidence, int(self.now())))


def families_of(target: Target) -> tuple[str, ...]:
    """What cooldowns may be narrowed to that concern its model: all models, its family, itself."""
    return tuple(dict.fromkeys(("", family_of(target.model), target.model)))
