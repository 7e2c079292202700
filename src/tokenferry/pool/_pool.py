import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from tokenferry.limits import Classification, LimitState, read_limits
from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._account_log import AccountLog
from tokenferry.pool._bench import SOURCE, cooldown_of, is_about_an_account, scope_of
from tokenferry.pool._pick import Headers, Selection, text_headers
from tokenferry.pool._selector import Selector, family_of, subject_of
from tokenferry.pool._unconfirmed import may_be_the_requests
from tokenferry.pool._view import OVERAGE
from tokenferry.settings import PoolSettings
from tokenferry.state import Cooldown, Scope

if TYPE_CHECKING:
    from tokenferry.pool._cooldowns import Key
    from tokenferry.pool._waiting import Ticket

logger = logging.getLogger(__name__)

_LOOK: Final = 1.0
_ROLL_OVER: Final = 60.0
_MOST_FAILURES: Final = 10_000
_ANY: Final = Criteria()


class Pool(Selector):
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
    ) -> None:
        super().__init__(settings, now=now, monotonic=monotonic, rng=rng)
        self.waiting: deque[Ticket] = deque()
        self._looked: dict[str, float] = {}
        self._failures: dict[Key, int] = {}
        self._billed: dict[str, float] = {}
        self.news = AccountLog(self.records, self.now)

    def configure(self, settings: PoolSettings) -> None:
        """Go by other settings from now on."""
        self.settings = settings
        self.load.configure(settings)
        self._views.clear()
        self._billed.clear()

    def begin(self, member: PoolAccount) -> float:
        """Count a request to it; give the seconds that it has to wait for its turn."""
        return self.load.take(member.name, self.monotonic())

    def end(self, member: PoolAccount) -> None:
        """The request to it has ended; who waits for a place there gets it."""
        self.load.release(member.name)
        if self.waiting:
            self._hand_on(member)

    def served(self, hop: Target, want: Criteria, pick: Selection, headers: Headers, at: float) -> None:
        """It gave a good answer, at this moment of the clock that doesn't jump."""
        name = pick.member.name
        if self._down:
            self._down.pop(hop.roster.provider, None)
        if self._aside:
            self._aside.drop(name, subject_of(hop, want))
        if not want.side and (self._failures or self._doubts):
            self._works(pick.member, hop)
        if pick.block is not None:
            self._recovered(pick, hop)
        self.news.served(name, self._builder.organization_of(pick.member))
        if self._looked.get(name, -_LOOK) + _LOOK <= at:
            self._looked[name] = at
            told = read_limits(text_headers(headers), now=self.now(), provider_format=hop.roster.wire_format)
            self.told(pick.member, told, is_side=bool(want.side))

    def told(self, member: PoolAccount, state: LimitState, *, is_side: bool = False) -> None:
        """Take in what an answer says about limits; on a side route these are the route's own."""
        if state.organization and not member.bills_subscription:
            known = self.records.organizations.get(member.name, member.organization)
            if known != state.organization:
                self.records.learn(member.name, state.organization)
        if is_side:
            return
        self.usage.note(member.name, state, self.settings.quota_threshold)
        if state.bills_overage:
            self._bill(member, state)

    def bench(
        self,
        hops: Sequence[Target],
        hop: Target,
        want: Criteria,
        pick: Selection,
        verdict: Classification,
        *,
        fingerprint: str = "",
        is_certain: bool = False,
    ) -> Cooldown | None:
        """Note what an answer means for later requests; None if it means nothing for them.

        `hops` are the targets of the request, of which `hop` gave the answer. `is_certain`: it can't be the request's
        own fault, for the provider has said that the login is dead.
        """
        member, now = pick.member, self.now()
        if want.side or verdict.hold == "later":
            if is_about_an_account(verdict):
                self._aside.put(member.name, subject_of(hop, want), self.monotonic())
            return None
        scope = scope_of(verdict, member, self._builder.organization_of(member), hop.model)
        if scope is None:
            return None
        key = (scope.kind, scope.name, scope.family, verdict.cause)
        if is_certain or not may_be_the_requests(verdict):
            self._doubts.settle(key)
        elif (
            not self._doubts.note(key, want.client)
            and (verdict.action != "refresh" or member.can_renew)
            and self._is_last(hops, member, scope)
        ):
            return None  # the next request shows whether it was this one's own fault
        failures = self._failures.get(key, 0)
        if len(self._failures) >= _MOST_FAILURES:
            self._failures.clear()
        self._failures[key] = failures + 1
        evidence = verdict.reason
        if verdict.scope == "credential" and fingerprint:  # what is said of one credential isn't true of the next one
            evidence = f"{evidence.rstrip('.')}: {fingerprint}."
        cooldown = cooldown_of(verdict, scope, now=now, failures=failures, rng=self.rng, evidence=evidence)
        self.news.limited(cooldown)
        # What a probe is told is news, whatever was believed before it.
        is_news = pick.block is not None and pick.block.cooldown.cause == verdict.cause
        self.records.note(cooldown, is_better_informed=is_news)
        return cooldown

    def _is_last(self, hops: Sequence[Target], member: PoolAccount, scope: Scope) -> bool:
        """Whether nobody else could serve such a request once this scope is passed over."""
        now, at = self.now(), self.monotonic()
        shared = scope.name if scope.kind == "organization" else None
        return not any(
            one.name != member.name and (shared is None or self._builder.organization_of(one) != shared)
            for hop in hops
            for one in self._view(hop, _ANY, now, at).ready
        )

    def _works(self, member: PoolAccount, hop: Target) -> None:
        """It gave a good answer: what was counted against it for such a model is over."""
        families = families_of(hop)
        names = {member.name, hop.roster.provider}
        self._failures = {
            key: count for key, count in self._failures.items() if key[1] not in names or key[2] not in families
        }
        self._doubts.served(member.name, self._builder.organization_of(member), families)

    def _recovered(self, pick: Selection, hop: Target) -> None:
        """A probe went well: whatever stood against this account for this model is over."""
        families = families_of(hop)
        against = self.records.of("account", pick.member.name, families)
        if organization := self._builder.organization_of(pick.member):
            against += self.records.of("organization", organization, families)
        for cooldown in against:
            self.records.clear(cooldown)
            self.news.recovered(cooldown)

    def _bill(self, member: PoolAccount, state: LimitState) -> None:
        """Its use is billed beyond its subscription now; whether that counts is the operator's policy."""
        ends = [window.reset for window in state.rejected if window.reset is not None]
        until = max(ends, default=state.reset)
        if until is None or until - self._billed.get(member.name, 0.0) < _ROLL_OVER:
            return
        self._billed[member.name] = until
        logger.warning("account %s: its use is billed beyond its subscription now", member.name)
        if self.settings.overage != "allow":
            scope, evidence = Scope("account", member.name), "Its use is billed beyond its subscription now."
            self.records.note(Cooldown(scope, OVERAGE, SOURCE, math.ceil(until), evidence, int(self.now())))

    def _hand_on(self, member: PoolAccount) -> None:
        if self.load.has_place(member.name):
            any(ticket.offer(member) for ticket in tuple(self.waiting))


def families_of(hop: Target) -> tuple[str, ...]:
    """What cooldowns may be narrowed to that concern its model: all models, its family, itself."""
    return tuple(dict.fromkeys(("", family_of(hop.model), hop.model)))
