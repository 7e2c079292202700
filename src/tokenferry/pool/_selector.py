import math
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Final

from tokenferry.limits import model_family
from tokenferry.pool._account import AccountGroup, Criteria, PoolAccount, Target
from tokenferry.pool._affinity import Affinity, AffinityTable
from tokenferry.pool._capacity import Capacity
from tokenferry.pool._choice import Choice, PassedOver
from tokenferry.pool._cooldowns import CooldownCache, end_of, key_of
from tokenferry.pool._pick import Selection
from tokenferry.pool._probes import OF_CREDENTIALS, Probes
from tokenferry.pool._recent_refusals import RecentRefusals, Subject
from tokenferry.pool._unconfirmed import UnconfirmedRefusals
from tokenferry.pool._usage import LimitUsage
from tokenferry.pool._view import CandidateBuilder, Candidates
from tokenferry.settings import PoolSettings, Strategy

# Below it a conversation only makes a detour: its prompt is in the provider's cache for so long.
_CACHED: Final = 300.0
_RESORT: Final = 1.0
_REST: Final = 1.0
_LONGEST_REST: Final = 30.0
_MOST_VIEWS: Final = 512
_NOBODY: Final[AbstractSet[str]] = frozenset()
_LATER: Final = "it could serve, and comes later"
_WORDS: Final[dict[Strategy, str]] = {
    "priority": "it comes first in order",
    "round-robin": "it is its turn",
    "least-utilised": "the least of its limits is used up",
    "drain-soonest-reset": "its allowance is made new the soonest",
}

family_of = lru_cache(1024)(model_family)


def subject_of(hop: Target, want: Criteria) -> Subject:
    """What a refusal of such a request is remembered for."""
    return ("route", want.side) if want.side else ("model", hop.model)


class Selector:
    """Who of a roster serves a request, by strategy, affinity, cooldowns, probes and caps.

    `now` gives seconds since 1970 UTC, `monotonic` those of a clock that doesn't jump.
    """

    def __init__(
        self,
        settings: PoolSettings | None = None,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self.settings = settings or PoolSettings()
        self.now = now
        self.monotonic = monotonic
        self.rng = rng or Random()  # noqa: S311  # it spreads waits
        self.records = CooldownCache(now)
        self.usage = LimitUsage()
        self.load = Capacity(self.settings)
        self._homes = AffinityTable()
        self._aside = RecentRefusals()
        self._doubts = UnconfirmedRefusals()
        self._probes = Probes()
        self._builder = CandidateBuilder(self.records, self.usage, self._probes)
        self._views: dict[tuple[AccountGroup, frozenset[str] | None, str, str], Candidates] = {}
        self._turns: dict[str, int] = {}
        self._resting: dict[str, tuple[float, str]] = {}
        self._down: dict[str, float] = {}

    @property
    def has_aside(self) -> bool:
        """Whether any account comes last for anything."""
        return bool(self._aside)

    def pick(
        self,
        hop: Target,
        want: Criteria,
        tried: AbstractSet[str] = _NOBODY,
        *,
        is_first: bool = False,
        takes_aside: bool = False,
    ) -> Selection | None:
        """Who serves next; None if nobody can now. `is_first`: the request may probe one that is benched.

        Those that refused this model or route a moment ago are left out unless it `takes_aside`.
        """
        now, at = self.now(), self.monotonic()
        view = self._view(hop, want, now, at)
        if is_first and view.probe_at <= now and view.ready and not want.side and (probe := self._probe(view, now)):
            return probe
        passed = tried if takes_aside or not self._aside else tried | self._aside.accounts(subject_of(hop, want), at)
        if len(hop.roster.members) == 1:  # no conversation can live anywhere else
            return self._best(view, passed, at)
        provider = hop.roster.provider
        home = self._homes.get(provider, want.affinity, at) if want.affinity else None
        if home is not None and (member := self._at_home(home, view, passed, at)):
            return Selection(member, "its conversation lives there", view)
        best = self._best(view, passed, at)
        if best is None:
            return None
        account = best.member.name
        if home is None:
            if want.affinity:
                self._homes.settle(provider, want.affinity, account, at)
        elif self._is_gone(home.account, view, now):
            self._homes.settle(provider, want.affinity, account, at)
        elif not tried:
            home.guest = account
        return best

    def last_resort(self, hop: Target, want: Criteria, tried: AbstractSet[str]) -> Selection | None:
        """Where nobody else can serve: one that is benched, if it is time to find out whether it still must be.

        A side route finds out nothing about messages, and may use what only messages are limited for.
        """
        now, at = self.now(), self.monotonic()
        view = self._view(hop, want, now, at)
        for account, block in sorted(view.blocked.items(), key=lambda item: item[1].until):
            member = view.roster.by_name[account]
            if account in tried or not self.load.has_place(account):
                continue
            if want.side:
                if block.cooldown.cause not in OF_CREDENTIALS:
                    return Selection(member, "its limits for messages are not those of this route", view)
                continue
            if self._doubts.may_ask(key_of(block.cooldown), want.client):
                return Selection(
                    member, "nobody else is left, and another client's request may be at fault", view, block
                )
            if self._probes.due(member, block, now, is_last_resort=True) <= now:
                self._probes.begin(block, now)
                return Selection(member, "nobody else is left, and it may have recovered", view, block)
        return None

    def select(self, hop: Target, want: Criteria, tried: AbstractSet[str] = _NOBODY) -> Choice:
        """Who would serve, and why nobody else. It changes nothing, looks at every account and takes its time."""
        now, at = self.now(), self.monotonic()
        view = self._view(hop, want, now, at)
        home = self._homes.peek(hop.roster.provider, want.affinity, at)
        aside = self._aside.accounts(subject_of(hop, want), at)
        member = None if home is None else self._at_home(home, view, tried | aside, at)
        reason = "its conversation lives there"
        if member is None:
            reason = _WORDS[self._strategy(hop.roster)]
            found = (self._first(view, passed, at, is_serious=False) for passed in (tried | aside, tried))
            member = next(filter(None, found), None)
        others = [self._standing(one, view, want, tried, at) for one in view.roster.members if one != member]
        why = f"it refused this {subject_of(hop, want)[0]} less than 5 minutes ago, so others come first"
        told = (replace(one, reason=why) if one.account in aside and one.reason == _LATER else one for one in others)
        return Choice(member, "" if member is None else reason, tuple(told))

    def next_turn(self, hop: Target, want: Criteria, tried: AbstractSet[str]) -> tuple[Selection, float] | None:
        """Who could serve but for its cap on requests per second, and in how many seconds it can."""
        at = self.monotonic()
        view = self._view(hop, want, self.now(), at)
        free = [one for one in view.ready if one.name not in tried and self.load.has_place(one.name)]
        if not free:
            return None
        soonest = min(free, key=lambda one: self.load.pause(one.name, at))
        return Selection(soonest, "its turn comes first", view), self.load.pause(soonest.name, at)

    def pick_only(self, hop: Target, want: Criteria, tried: AbstractSet[str], member: PoolAccount) -> Selection | None:
        """This member, if it may serve and has a place."""
        view = self._view(hop, want, self.now(), self.monotonic())
        found = view.by_name.get(member.name)
        if found is None or found.provider != member.provider or member.name in tried:
            return None
        return Selection(found, "it had the first free place", view)

    def is_full(self, hop: Target, want: Criteria, tried: AbstractSet[str]) -> bool:
        """Whether somebody could serve but for a cap on requests at a time."""
        view = self._view(hop, want, self.now(), self.monotonic())
        return any(one.name not in tried and not self.load.has_place(one.name) for one in view.ready)

    def probed(self, pick: Selection, *, has_failed: bool | None) -> None:
        """A probe has ended; None for `has_failed` where nothing was found out."""
        if pick.block is not None:
            self._probes.end(pick.block, has_failed=has_failed)
            self._views.clear()

    def is_aside(self, account: str, hop: Target, want: Criteria) -> bool:
        """Whether it refused such a request less than 5 minutes ago."""
        return account in self._aside.accounts(subject_of(hop, want), self.monotonic())

    def rest(self, member: PoolAccount, reason: str, seconds: float | None) -> None:
        """It has no credential for now: others come first for a moment."""
        pause = min(max(seconds or _REST, _REST), _LONGEST_REST)
        self._resting[member.name] = (self.monotonic() + pause, reason)

    def remember(self, hops: Sequence[Target], want: Criteria, account: str) -> None:
        """Let a conversation live on the account that served it last."""
        for hop in hops:
            if account in hop.roster.by_name and want.affinity:
                self._homes.settle(hop.roster.provider, want.affinity, account, self.monotonic())

    def order(self, hops: Sequence[Target]) -> Sequence[Target]:
        """The same, those last whose provider has just failed."""
        self.records.refresh()
        if len(hops) < 2 or not (self._down or self.records):  # noqa: PLR2004  # one has no order
            return hops
        now, at = self.now(), self.monotonic()
        return sorted(hops, key=lambda hop: self._is_down(hop.roster.provider, now, at))

    def unreachable(self, provider: str) -> None:
        """No connection to it came about: others come first for a moment."""
        self._down[provider] = self.monotonic() + _REST * 5

    # -- in here

    def _view(self, hop: Target, want: Criteria, now: float, at: float) -> Candidates:
        records = self.records
        records.refresh()
        roster, allowed = hop.roster, want.allowed
        if want.pinned is not None:
            allowed = frozenset((want.pinned,)) if allowed is None or want.pinned in allowed else frozenset()
        family = model = ""
        if records.narrow:
            named = family_of(hop.model)
            family = named if named in records.narrow else ""
            model = hop.model if hop.model in records.narrow else ""
        strategy = roster.strategy or self.settings.strategy
        is_by_usage = strategy in {"least-utilised", "drain-soonest-reset"}
        if is_by_usage:
            family = family_of(hop.model)
        key = (roster, allowed, family, model)
        view = self._views.get(key)
        if (
            view is not None
            and view.until > now
            and view.versions[0] == records.version
            and (not is_by_usage or view.versions[1] == self.usage.version or view.resort_at > at)
        ):
            return view
        if len(self._views) >= _MOST_VIEWS:
            self._views.clear()
        view = Candidates(roster, (records.version, self.usage.version), at + _RESORT)
        self._views[key] = self._builder.build(
            view,
            allowed=allowed,
            family=family,
            model=model,
            strategy=strategy,
            overage=self.settings.overage,
            now=now,
        )
        return view

    def _strategy(self, roster: AccountGroup) -> Strategy:
        return roster.strategy or self.settings.strategy

    def _at_home(self, home: Affinity, view: Candidates, tried: AbstractSet[str], at: float) -> PoolAccount | None:
        for account in (home.account, home.guest):
            member = view.by_name.get(account) if account is not None else None
            if (
                member is not None
                and account not in tried
                and self._may_stay(member, view)
                and self._is_free(member, at)
            ):
                return member
        return None

    def _may_stay(self, member: PoolAccount, view: Candidates) -> bool:
        """By priority a conversation stays among equals: a better account takes it back once it has recovered."""
        if member.name in view.reluctant:
            return view.ready[0].name in view.reluctant
        return self._strategy(view.roster) != "priority" or member.priority <= view.ready[0].priority

    def _is_gone(self, account: str, view: Candidates, now: float) -> bool:
        """Whether a home is away for so long that the conversation moves."""
        member = view.by_name.get(account)
        if member is not None:
            return not self._may_stay(member, view)
        block = view.blocked.get(account)
        return block is None or block.until - now > _CACHED

    def _is_free(self, member: PoolAccount, at: float) -> bool:
        """Whether it has a place, and isn't resting."""
        if self._resting and (rest := self._resting.get(member.name)):
            if rest[0] > at:
                return False
            del self._resting[member.name]
        if not self.load.is_capped:
            return True
        return self.load.has_place(member.name) and not self.load.pause(member.name, at)

    def _standing(
        self, one: PoolAccount, view: Candidates, want: Criteria, tried: AbstractSet[str], at: float
    ) -> PassedOver:
        if (block := view.blocked.get(one.name)) is not None:
            cooldown = block.cooldown
            return PassedOver(one.name, cooldown.evidence or cooldown.cause, cooldown.until, cooldown.cause)
        if one.name not in view.by_name:
            pinned = f"the request is pinned to {want.pinned}" if want.pinned else "its client key may not use it"
            return PassedOver(one.name, pinned, is_allowed=False)
        if one.name in tried:
            return PassedOver(one.name, "it was tried")
        rest = self._resting.get(one.name)
        reason = rest[1] if rest is not None and rest[0] > at else self.load.reason(one.name, at)
        billed = view.reluctant.get(one.name)
        if not reason and billed is not None:
            return PassedOver(one.name, "its use is billed beyond its subscription", billed.cooldown.until)
        return PassedOver(one.name, reason or _LATER)

    def _best(self, view: Candidates, tried: AbstractSet[str], at: float) -> Selection | None:
        """The first in order that is free. As long as the view holds it is the same one for most requests."""
        member = self._first(view, tried, at)
        if member is None:
            return None
        best = view.best
        if best is None or best.member is not member:
            best = view.best = Selection(member, _WORDS[self._strategy(view.roster)], view)
        return best

    def _first(
        self, view: Candidates, tried: AbstractSet[str], at: float, *, is_serious: bool = True
    ) -> PoolAccount | None:
        ready = view.ready
        if len(ready) > 1 and self._strategy(view.roster) == "round-robin":
            return self._next_in_turn(view, tried, at, is_serious=is_serious)
        for member in ready:
            if member.name not in tried and self._is_free(member, at):
                return member
        return self._resting_one(view, tried)

    def _next_in_turn(
        self, view: Candidates, tried: AbstractSet[str], at: float, *, is_serious: bool
    ) -> PoolAccount | None:
        ready, provider = view.ready, view.roster.provider
        willing = len(ready) - len(view.reluctant) or len(ready)
        turn = self._turns.get(provider, 0)
        for place in range(len(ready)):
            member = ready[(turn + place) % willing if place < willing else place]
            if member.name not in tried and self._is_free(member, at):
                if is_serious:
                    self._turns[provider] = turn + place + 1
                return member
        return self._resting_one(view, tried)

    def _resting_one(self, view: Candidates, tried: AbstractSet[str]) -> PoolAccount | None:
        """One that had no credential a moment ago, where there is nobody else."""
        if not self._resting:
            return None
        free = (one for one in view.ready if one.name not in tried and self.load.has_place(one.name))
        return next(free, None)

    def _probe(self, view: Candidates, now: float) -> Selection | None:
        due = {name: self._probes.due(view.roster.by_name[name], block, now) for name, block in view.blocked.items()}
        chosen = next((name for name, at in due.items() if at <= now and self.load.has_place(name)), None)
        if chosen is None:
            return None
        self._probes.begin(view.blocked[chosen], now)
        del due[chosen]
        view.probe_at = min(due.values(), default=math.inf)
        return Selection(
            view.roster.by_name[chosen], "it is benched, and may have recovered", view, view.blocked[chosen]
        )

    def _is_down(self, provider: str, now: float, at: float) -> bool:
        if self._down.get(provider, 0.0) > at:
            return True
        return any(end_of(one) > now for one in self.records.of("provider", provider))
